/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which word of a list somebody meant. An unambiguous abbreviation is the word;
 * an ambiguous one is never guessed, and a mistyped one is only ever suggested.
 */
#ifndef WEFT_CLI_WORDS_H
#define WEFT_CLI_WORDS_H

#include <stddef.h>

#include "base/err.h"

/*
 * 0 and the index in `words`. -EINVAL: none or several; `err` says so in a
 * sentence that calls the thing `what` ("object") and names the nearest word or the candidates.
 */
int weft_word_find(const char *what, const char *text, const char *const *words, size_t count, size_t *ret_index,
		   struct weft_err *err);

/* Index of the word that is the fewest slips away (a letter more, less, other, or two swapped), or -1 if none is near. */
int weft_word_nearest(const char *text, const char *const *words, size_t count);

#endif
