/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes, for text and for batches. */
#ifndef WEFT_BASE_BUF_H
#define WEFT_BASE_BUF_H

#include <stddef.h>

struct weft_buf {
	char *data; /* NUL behind the last byte once anything was added; NULL before */
	size_t size;
	size_t room;
};

#define WEFT_BUF_INIT ((struct weft_buf){ 0 })

/* Frees the memory and makes the buffer empty; takes an empty one. */
void weft_buf_done(struct weft_buf *buf);
void weft_buf_clear(struct weft_buf *buf);

/* All: 0 or -ENOMEM with the buffer as it was. */
int weft_buf_add(struct weft_buf *buf, const void *data, size_t size);
int weft_buf_printf(struct weft_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* `size` zero bytes; *ret_at, if asked for, is their offset (pointers into a buffer move when it grows). */
int weft_buf_reserve(struct weft_buf *buf, size_t size, size_t *ret_at);

/*
 * Makes room for `need` items in an array that doubles: *items of item_size, *room items big. 0 or -ENOMEM, array untouched.
 */
int weft_grow(void *items, size_t *room, size_t need, size_t item_size);

#define weft_buf_done_on_exit __attribute__((cleanup(weft_buf_done)))

#endif
