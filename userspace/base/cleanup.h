/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership that a reader can check without leaving the function: every owner
 * is declared with weft_cleanup(), every escape goes through weft_take_ptr()
 * or weft_take_fd(). A descriptor that is not open is -1.
 */
#ifndef WEFT_BASE_CLEANUP_H
#define WEFT_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define weft_cleanup(function) __attribute__((cleanup(function)))

#define weft_take_ptr(pointer)                      \
	({                                          \
		__typeof__(pointer) taken_ = (pointer); \
		(pointer) = NULL;                   \
		taken_;                             \
	})

static inline int weft_take_fd_(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
#define weft_take_fd(fd) weft_take_fd_(&(fd))

/* Defines the attribute's helper for a type whose destructor takes NULL. */
#define WEFT_CLEANUP_DEFINE(type, destructor)             \
	static inline void destructor##p(type **object)   \
	{                                                 \
		destructor(*object);                      \
	}                                                 \
	struct weft_cleanup_semicolon_

static inline void weft_freep(void *pointer)
{
	free(*(void **)pointer);
}

static inline void weft_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void weft_fclosep(FILE **file)
{
	if (*file)
		fclose(*file);
}

static inline void weft_closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

#define weft_free_on_exit weft_cleanup(weft_freep)
#define weft_close_on_exit weft_cleanup(weft_closep)
#define weft_fclose_on_exit weft_cleanup(weft_fclosep)
#define weft_closedir_on_exit weft_cleanup(weft_closedirp)

#define WEFT_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#endif
