#ifndef A_H
#define A_H
#include <stddef.h>
size_t weft_a(void);
#endif
