#include "base/err.h"
#include "kernel/reader.h"
#include "model/names.h"
