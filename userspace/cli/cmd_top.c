/* SPDX-License-Identifier: Apache-2.0 */
/* weft top: rates.h on a terminal, or as one table after another. */
#include <errno.h>
#include <ncurses.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/rates.h"

#define DEFAULT_INTERVAL_MS 1000
#define FIRST_INTERVAL_MS 200

static void put_rate(struct weft_output *out, const struct weft_rate *rate)
{
	weft_output_row(out);
	weft_output_text(out, "service", rate->name);
	if (rate->counted)
		weft_output_number(out, "live", rate->live);
	weft_output_real(out, "opened_per_s", rate->opened);
	weft_output_real(out, "failed_per_s", rate->failed);
	weft_output_number(out, "bytes_per_s", (uint64_t)rate->bytes);
	if (rate->rtt_p50_us)
		weft_output_number(out, "rtt_p50_us", rate->rtt_p50_us);
	weft_output_row_end(out);
}

/* Fills the output with what happened since *look, which becomes the present. */
static int collect(struct weft_context *context, struct weft_look *look, const char *sort, struct weft_err *err)
{
	weft_free_on_exit struct weft_rate *rates = NULL;
	struct weft_look now;
	size_t count;
	int r;

	r = weft_look_take(context->options, &now, err);
	if (r < 0)
		return r;
	r = weft_rates(look, &now, sort, &rates, &count, err);
	weft_look_done(look);
	*look = now;
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		put_rate(context->output, &rates[i]);
	return 0;
}

static int batch(struct weft_context *context, const struct weft_args *args, int interval_ms, struct weft_err *err)
{
	weft_look_done_on_exit struct weft_look look = { 0 };
	const struct weft_column *columns = context->output->columns;
	uint32_t left = args->number[WEFT_ARG_COUNT];
	int r;

	r = weft_look_take(context->options, &look, err);
	while (r == 0) {
		poll(NULL, 0, interval_ms);
		r = collect(context, &look, args->text[WEFT_ARG_SORT], err);
		/* the last one is ended by who began it */
		if (r < 0 || (left && --left == 0))
			break;
		r = weft_output_end(context->output);
		if (r < 0)
			return weft_err_set(err, r, "cannot print: %s", strerror(-r));
		weft_output_begin(context->output, WEFT_FORM_TABLE, columns);
	}
	return r;
}

/* The sort that a key stands for; NULL: none. */
static const char *sort_of(int key)
{
	switch (key) {
	case 'l':
		return "live";
	case 'r':
		return "rate";
	case 'f':
		return "failures";
	case 'b':
		return "bytes";
	case 't':
		return "rtt";
	case 'n':
		return "name";
	default:
		return NULL;
	}
}

/* The table as text, in the buffer that the screen is painted from. */
static int draw(struct weft_context *context, struct weft_look *look, const char *sort, char **text, size_t *size,
		struct weft_err *err)
{
	struct weft_output *out = context->output;
	const struct weft_column *columns = out->columns;
	FILE *screen = open_memstream(text, size), *to = out->to;
	int r;

	if (!screen)
		return weft_err_set(err, errno, "out of memory");
	out->to = screen;
	r = collect(context, look, sort, err);
	if (r == 0)
		weft_output_end(out);
	weft_output_begin(out, WEFT_FORM_TABLE, columns);
	out->to = to;
	fclose(screen);
	return r;
}

static void paint(const char *text, const char *sort, int interval_ms)
{
	const char *line = text;

	erase();
	mvprintw(0, 0, "weft top: every %d ms, by %s; keys: l r f b t n sort, q ends", interval_ms, sort);
	for (int y = 2; y < LINES && *line; y++) {
		size_t length = strcspn(line, "\n");

		if (y == 2)
			attron(A_REVERSE);
		mvaddnstr(y, 0, line, (int)length < COLS ? (int)length : COLS);
		attroff(A_REVERSE);
		line += length + (line[length] == '\n');
	}
	refresh();
}

static int live(struct weft_context *context, const struct weft_args *args, int interval_ms, struct weft_err *err)
{
	weft_look_done_on_exit struct weft_look look = { 0 };
	const char *sort = args->text[WEFT_ARG_SORT] ? args->text[WEFT_ARG_SORT] : "live";
	uint32_t left = args->number[WEFT_ARG_COUNT];
	int key = 0, r;
	SCREEN *screen;

	r = weft_look_take(context->options, &look, err);
	if (r < 0)
		return r;
	/* a rate needs a while behind it; the first one may be short */
	poll(NULL, 0, interval_ms < FIRST_INTERVAL_MS ? interval_ms : FIRST_INTERVAL_MS);
	screen = newterm(NULL, stdout, stdin);
	if (!screen)
		return weft_err_set(err, ENOTTY, "cannot use this terminal (TERM=%s): try `weft top batch`",
				    getenv("TERM") ? getenv("TERM") : "");
	cbreak();
	noecho();
	curs_set(0);
	timeout(interval_ms);
	while (key != 'q') {
		weft_free_on_exit char *text = NULL;
		size_t size = 0;

		r = draw(context, &look, sort, &text, &size, err);
		if (r < 0)
			break;
		paint(text, sort, interval_ms);
		if (left && --left == 0)
			break;
		key = getch();
		if (sort_of(key))
			sort = sort_of(key);
	}
	endwin();
	delscreen(screen);
	/* all was painted; a stream without rows prints nothing more */
	weft_output_begin(context->output, WEFT_FORM_STREAM, context->output->columns);
	return r;
}

int weft_cmd_top(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	uint32_t interval = args->number[WEFT_ARG_INTERVAL];
	int interval_ms = interval > 3600000 ? 3600000 : interval ? (int)interval : DEFAULT_INTERVAL_MS;

	if (args->text[WEFT_ARG_BATCH] || !context->output->ops->for_people || !isatty(STDOUT_FILENO))
		return batch(context, args, interval_ms, err);
	return live(context, args, interval_ms, err);
}
