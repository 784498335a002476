#include "base/err.h"
#include "kernel/kernel.h"
