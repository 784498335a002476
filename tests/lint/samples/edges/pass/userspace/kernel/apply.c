#include <errno.h>
#include "model/model.h"
#include "weft/abi/maps.h"
