#ifndef A_H
#define A_H
size_t weft_a(void);
#endif
