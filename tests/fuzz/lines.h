/* SPDX-License-Identifier: Apache-2.0 */
/* The input of a command line's target: one word a line. */
#ifndef WEFT_TESTS_FUZZ_LINES_H
#define WEFT_TESTS_FUZZ_LINES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LINES_MAX 64

struct lines {
	char *text; /* the words point into it */
	char *word[LINES_MAX + 1]; /* NULL at the end, as in argv */
	int count;
};

/* Words past LINES_MAX are left out. `first`, unless NULL, stands before them. */
static inline void lines_split(struct lines *lines, const char *first, const uint8_t *data, size_t size)
{
	char *at, *end;

	lines->text = at = malloc(size + 1);
	if (!at)
		abort();
	memcpy(at, data, size);
	at[size] = '\0';
	lines->count = 0;
	if (first)
		lines->word[lines->count++] = (char *)first;
	for (; lines->count < LINES_MAX && at < lines->text + size; at = end + 1) {
		end = at + strcspn(at, "\n");
		*end = '\0';
		lines->word[lines->count++] = at;
	}
	lines->word[lines->count] = NULL;
}

#endif
