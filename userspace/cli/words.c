/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/words.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 32

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Optimal string alignment distance; what is longer than any of our words is as far away as can be. */
static unsigned slips(const char *a, const char *b)
{
	unsigned row[3][WORD_MAX + 1];
	size_t m = strlen(a), n = strlen(b);

	if (m > WORD_MAX || n > WORD_MAX)
		return WORD_MAX;
	for (size_t j = 0; j <= n; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= m; i++) {
		unsigned *now = row[i % 3], *above = row[(i - 1) % 3], *swap = row[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= n; j++) {
			now[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]), least(above[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = least(now[j], swap[j - 2] + 1);
		}
	}
	return row[m % 3][n];
}

int weft_word_nearest(const char *text, const char *const *words, size_t count)
{
	unsigned best = WORD_MAX;
	int nearest = -1;

	for (size_t i = 0; i < count; i++) {
		unsigned distance = slips(text, words[i]);

		if (distance < best) {
			best = distance;
			nearest = (int)i;
		}
	}
	/* every third letter may be wrong, and one always: beyond that a suggestion is noise */
	return best <= (strlen(text) + 2) / 3 ? nearest : -1;
}

int weft_word_find(const char *what, const char *text, const char *const *words, size_t count, size_t *ret_index,
		   struct weft_err *err)
{
	char list[512] = "";
	size_t size = strlen(text), found = 0, last = 0, used = 0;
	int nearest;

	for (size_t i = 0; i < count; i++) {
		if (strcmp(words[i], text) == 0) {
			*ret_index = i;
			return 0;
		}
		if (!size || strncmp(words[i], text, size) != 0)
			continue;
		if (used < sizeof(list))
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s`%s`", found ? ", " : "",
						 words[i]);
		last = i;
		found++;
	}
	if (found == 1) {
		*ret_index = last;
		return 0;
	}
	if (found > 1)
		return weft_err_set(err, EINVAL, "%s `%s` is ambiguous: %s", what, text, list);
	nearest = weft_word_nearest(text, words, count);
	if (nearest >= 0)
		return weft_err_set(err, EINVAL, "unknown %s `%s`, did you mean `%s`?", what, text, words[nearest]);
	if (count && count <= 8) {
		for (size_t i = 0; i < count && used < sizeof(list); i++)
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s`%s`", i ? ", " : "", words[i]);
		return weft_err_set(err, EINVAL, "unknown %s `%s`, there is %s", what, text, list);
	}
	return weft_err_set(err, EINVAL, "unknown %s `%s`", what, text);
}
