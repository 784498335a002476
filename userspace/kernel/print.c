/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/print.h"

#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define LINES 20
#define LINE_SIZE 200

struct weft_print {
	char line[LINES][LINE_SIZE];
	unsigned int next; /* counts all lines ever; the slot is next % LINES */
	unsigned int depth;
	libbpf_print_fn_t before;
	char text[640]; /* struct weft_err holds 768 */
};

static _Thread_local struct weft_print guard;

static void keep(const char *line, size_t size)
{
	char *slot = guard.line[guard.next % LINES];

	if (!size)
		return;
	if (size >= LINE_SIZE)
		size = LINE_SIZE - 1;
	memcpy(slot, line, size);
	slot[size] = '\0';
	guard.next++;
}

static int catch (enum libbpf_print_level level, const char *format, va_list args)
{
	weft_free_on_exit char *text = NULL;

	if (level > LIBBPF_WARN)
		return 0;
	if (vasprintf(&text, format, args) < 0) {
		text = NULL;
		return 0;
	}
	for (char *at = text; *at;) {
		size_t size = strcspn(at, "\n");

		keep(at, size);
		at += size + (at[size] == '\n');
	}
	return 0;
}

struct weft_print *weft_print_begin(void)
{
	if (guard.depth++ == 0) {
		guard.next = 0;
		guard.before = libbpf_set_print(catch);
	}
	return &guard;
}

void weft_print_end(struct weft_print *print)
{
	if (--print->depth == 0)
		libbpf_set_print(print->before);
}

const char *weft_print_text(struct weft_print *print)
{
	unsigned int first = print->next > LINES ? print->next - LINES : 0, from = print->next;
	size_t used = 0, size;

	for (unsigned int i = first; i < print->next; i++)
		weft_debug("libbpf: %s", print->line[i % LINES]);
	/* As many of the last lines as fit: the cause stands at the end. */
	for (; from > first; from--) {
		size = strlen(print->line[(from - 1) % LINES]) + 2;
		if (used + size >= sizeof(print->text))
			break;
		used += size;
	}
	print->text[0] = '\0';
	used = 0;
	for (unsigned int i = from; i < print->next; i++)
		used += (size_t)snprintf(print->text + used, sizeof(print->text) - used, "%s%s", i > from ? "; " : "",
					 print->line[i % LINES]);
	return print->text;
}
