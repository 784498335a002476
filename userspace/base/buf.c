/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int weft_grow(void *items, size_t *room, size_t need, size_t item_size)
{
	void **array = items, *grown;
	size_t want = *room ? *room : 8;

	if (need <= *room)
		return 0;
	while (want < need) {
		if (want > SIZE_MAX / 2 / item_size)
			return -ENOMEM;
		want *= 2;
	}
	grown = realloc(*array, want * item_size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*room = want;
	return 0;
}

void weft_buf_done(struct weft_buf *buf)
{
	free(buf->data);
	*buf = WEFT_BUF_INIT;
}

void weft_buf_clear(struct weft_buf *buf)
{
	buf->size = 0;
	if (buf->data)
		buf->data[0] = '\0';
}

int weft_buf_reserve(struct weft_buf *buf, size_t size, size_t *ret_at)
{
	int r = weft_grow(&buf->data, &buf->room, buf->size + size + 1, 1);

	if (r < 0)
		return r;
	memset(buf->data + buf->size, 0, size + 1);
	if (ret_at)
		*ret_at = buf->size;
	buf->size += size;
	return 0;
}

int weft_buf_add(struct weft_buf *buf, const void *data, size_t size)
{
	int r = weft_grow(&buf->data, &buf->room, buf->size + size + 1, 1);

	if (r < 0)
		return r;
	if (size)
		memcpy(buf->data + buf->size, data, size);
	buf->size += size;
	buf->data[buf->size] = '\0';
	return 0;
}

int weft_buf_printf(struct weft_buf *buf, const char *format, ...)
{
	va_list args;
	int size, r;

	va_start(args, format);
	size = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (size < 0)
		return -EINVAL;
	r = weft_grow(&buf->data, &buf->room, buf->size + (size_t)size + 1, 1);
	if (r < 0)
		return r;
	va_start(args, format);
	vsnprintf(buf->data + buf->size, (size_t)size + 1, format, args);
	va_end(args);
	buf->size += (size_t)size;
	return 0;
}
