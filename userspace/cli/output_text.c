/* SPDX-License-Identifier: Apache-2.0 */
/* Text: aligned tables, blocks of "name: value", and lines as they come. */
#include <ctype.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

#include "base/buf.h"
#include "cli/output.h"

#define LEAVES 32

static bool right(const struct weft_column *column)
{
	switch (column->kind) {
	case WEFT_COLUMN_NUMBER:
	case WEFT_COLUMN_BYTES:
	case WEFT_COLUMN_NS:
	case WEFT_COLUMN_US:
	case WEFT_COLUMN_RATE:
	case WEFT_COLUMN_SHARE:
		return true;
	default:
		return false;
	}
}

static void bytes(double value, char *text, size_t size)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	size_t i = 0;

	for (; value >= 1024 && i + 1 < WEFT_ARRAY_SIZE(unit); i++)
		value /= 1024;
	snprintf(text, size, i ? "%.1f %s" : "%.0f %s", value, unit[i]);
}

static void duration(uint64_t ns, char *text, size_t size)
{
	uint64_t s = ns / 1000000000;

	if (ns < 1000)
		snprintf(text, size, "%" PRIu64 "ns", ns);
	else if (ns < 1000000)
		snprintf(text, size, "%.0fus", (double)ns / 1e3);
	else if (ns < 1000000000)
		snprintf(text, size, "%.1fms", (double)ns / 1e6);
	else if (s < 60)
		snprintf(text, size, "%.1fs", (double)ns / 1e9);
	else if (s < 3600)
		snprintf(text, size, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(text, size, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(text, size, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
}

/* Names come from files that anybody may have written: a terminal never sees their control characters. */
static void clean(struct weft_buf *buf, const char *text)
{
	for (; *text; text++) {
		if (iscntrl((unsigned char)*text))
			weft_buf_printf(buf, "\\x%02x", (unsigned char)*text);
		else
			weft_buf_add(buf, text, 1);
	}
}

/* Appends the value of one cell. */
static void cell(struct weft_buf *buf, const struct weft_column *column, struct json_object *value)
{
	char text[64] = "";

	if (!value) {
		weft_buf_add(buf, "-", 1);
		return;
	}
	switch (column->kind) {
	case WEFT_COLUMN_TEXT:
		clean(buf, json_object_get_string(value));
		return;
	case WEFT_COLUMN_TEXTS:
		for (size_t i = 0; i < json_object_array_length(value); i++) {
			if (i)
				weft_buf_add(buf, ",", 1);
			clean(buf, json_object_get_string(json_object_array_get_idx(value, i)));
		}
		return;
	case WEFT_COLUMN_NUMBER:
		snprintf(text, sizeof(text), "%" PRIu64, json_object_get_uint64(value));
		break;
	case WEFT_COLUMN_BYTES:
		bytes((double)json_object_get_uint64(value), text, sizeof(text));
		break;
	case WEFT_COLUMN_NS:
		duration(json_object_get_uint64(value), text, sizeof(text));
		break;
	case WEFT_COLUMN_US:
		duration(json_object_get_uint64(value) * 1000, text, sizeof(text));
		break;
	case WEFT_COLUMN_RATE:
		snprintf(text, sizeof(text), "%.1f", json_object_get_double(value));
		break;
	case WEFT_COLUMN_SHARE:
		snprintf(text, sizeof(text), "%.1f%%", json_object_get_double(value) * 100);
		break;
	case WEFT_COLUMN_YES:
		snprintf(text, sizeof(text), "%s", json_object_get_boolean(value) ? "yes" : "no");
		break;
	case WEFT_COLUMN_LIST:
	case WEFT_COLUMN_FLAT:
	case WEFT_COLUMN_OBJECT:
		break;
	}
	weft_buf_add(buf, text, strlen(text));
}

struct table {
	const struct weft_column *leaf[LEAVES];
	size_t leaves;
	size_t lines;
	size_t room;
	char **cells; /* lines * leaves; NULL: blank */
};

static bool is_leaf(const struct weft_column *column)
{
	return column->header && column->kind != WEFT_COLUMN_LIST && column->kind != WEFT_COLUMN_OBJECT;
}

static size_t collect(const struct weft_column *columns, const struct weft_column **leaf, size_t count)
{
	for (; columns->key; columns++) {
		if (columns->kind == WEFT_COLUMN_FLAT)
			count = collect(columns->columns, leaf, count);
		else if (is_leaf(columns) && count < LEAVES)
			leaf[count++] = columns;
	}
	return count;
}

static void need_line(struct table *table, size_t line)
{
	size_t before = table->room;

	if (line >= table->lines)
		table->lines = line + 1;
	if (weft_grow(&table->cells, &table->room, table->lines * table->leaves, sizeof(*table->cells)) < 0)
		abort();
	if (table->room > before)
		memset(table->cells + before, 0, (table->room - before) * sizeof(*table->cells));
}

/* Fills cells from (line, at) on. Returns the lines used; *at moves behind the last column. */
static size_t fill(struct table *table, const struct weft_column *columns, struct json_object *row, size_t line,
		   size_t *at)
{
	size_t used = 1;

	need_line(table, line);
	for (; columns->key; columns++) {
		struct json_object *value = NULL;
		struct weft_buf buf = WEFT_BUF_INIT;

		json_object_object_get_ex(row, columns->key, &value);
		if (columns->kind == WEFT_COLUMN_FLAT) {
			size_t start = *at, below = 0, count = value ? json_object_array_length(value) : 0;
			const struct weft_column *leaf[LEAVES];

			for (size_t i = 0; i < count; i++) {
				*at = start;
				below += fill(table, columns->columns, json_object_array_get_idx(value, i),
					      line + below, at);
			}
			*at = start + collect(columns->columns, leaf, 0);
			used = below > used ? below : used;
		} else if (is_leaf(columns)) {
			cell(&buf, columns, value);
			table->cells[line * table->leaves + (*at)++] = buf.data;
		}
	}
	return used;
}

static void put(FILE *to, const char *text, size_t width, bool to_right, bool last)
{
	int pad = (int)width;

	if (to_right)
		fprintf(to, "%*s", pad, text);
	else if (last)
		fputs(text, to);
	else
		fprintf(to, "%-*s", pad, text);
	fputs(last ? "\n" : "  ", to);
}

static const char *upper(const char *header, char *text, size_t size)
{
	size_t i;

	for (i = 0; header[i] && i + 1 < size; i++)
		text[i] = (char)toupper((unsigned char)header[i]);
	text[i] = '\0';
	return text;
}

static void print_table(FILE *to, const struct weft_column *columns, struct json_object *rows, int indent)
{
	struct table table = { 0 };
	size_t width[LEAVES], line = 0;
	char text[64];

	table.leaves = collect(columns, table.leaf, 0);
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		size_t at = 0;

		line += fill(&table, columns, json_object_array_get_idx(rows, i), line, &at);
	}
	for (size_t c = 0; c < table.leaves; c++) {
		width[c] = strlen(table.leaf[c]->header);
		for (size_t i = 0; i < table.lines; i++) {
			const char *value = table.cells[i * table.leaves + c];

			if (value && strlen(value) > width[c])
				width[c] = strlen(value);
		}
	}
	fprintf(to, "%*s", indent, "");
	for (size_t c = 0; c < table.leaves; c++)
		put(to, upper(table.leaf[c]->header, text, sizeof(text)), width[c], right(table.leaf[c]),
		    c + 1 == table.leaves);
	for (size_t i = 0; i < table.lines; i++) {
		size_t last = table.leaves;

		while (last > 1 && !table.cells[i * table.leaves + last - 1])
			last--;
		fprintf(to, "%*s", indent, "");
		for (size_t c = 0; c < last; c++) {
			const char *value = table.cells[i * table.leaves + c];

			put(to, value ? value : "", width[c], right(table.leaf[c]), c + 1 == last);
		}
	}
	for (size_t i = 0; i < table.lines * table.leaves; i++)
		free(table.cells[i]);
	free(table.cells);
}

static void print_card(FILE *to, const struct weft_column *columns, struct json_object *row, int indent)
{
	size_t width = 0;

	for (const struct weft_column *c = columns; c->key; c++)
		if (is_leaf(c) && c->kind != WEFT_COLUMN_FLAT && strlen(c->header) > width)
			width = strlen(c->header);
	for (const struct weft_column *c = columns; c->key; c++) {
		weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
		struct json_object *value = NULL;

		/* a block leaves out what is not known: unlike a table it has no place to keep */
		if (!c->header || !json_object_object_get_ex(row, c->key, &value))
			continue;
		if (c->kind == WEFT_COLUMN_OBJECT) {
			fprintf(to, "%*s%s:\n", indent, "", c->header);
			print_card(to, c->columns, value, indent + 2);
		} else if (c->kind == WEFT_COLUMN_LIST || c->kind == WEFT_COLUMN_FLAT) {
			if (!json_object_array_length(value)) {
				fprintf(to, "%*s%s: none\n", indent, "", c->header);
				continue;
			}
			fprintf(to, "%*s%s:\n", indent, "", c->header);
			print_table(to, c->columns, value, indent + 2);
		} else {
			cell(&buf, c, value);
			fprintf(to, "%*s%s:%*s%s\n", indent, "", c->header, (int)(width - strlen(c->header)) + 1, "",
				buf.data);
		}
	}
}

/* Nothing is known of the rows to come: a column is as wide as its header or this, and wider values push the rest. */
static size_t stream_width(const struct weft_column *column)
{
	size_t least = right(column) ? 8 : 12, header = strlen(column->header);

	return header > least ? header : least;
}

static void stream(struct weft_output *output, struct json_object *row)
{
	const struct weft_column *leaf[LEAVES];
	size_t count = collect(output->columns, leaf, 0);
	char text[64];

	for (size_t i = 0; !output->streaming && i < count; i++)
		put(output->to, upper(leaf[i]->header, text, sizeof(text)), stream_width(leaf[i]), right(leaf[i]),
		    i + 1 == count);
	output->streaming = true;
	for (size_t i = 0; i < count; i++) {
		weft_buf_done_on_exit struct weft_buf buf = WEFT_BUF_INIT;
		struct json_object *value = NULL;

		json_object_object_get_ex(row, leaf[i]->key, &value);
		cell(&buf, leaf[i], value);
		put(output->to, buf.data, stream_width(leaf[i]), right(leaf[i]), i + 1 == count);
	}
}

static void whole(struct weft_output *output, struct json_object *rows)
{
	if (output->form == WEFT_FORM_TABLE) {
		print_table(output->to, output->columns, rows, 0);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		if (i)
			fputc('\n', output->to);
		print_card(output->to, output->columns, json_object_array_get_idx(rows, i), 0);
	}
}

const struct weft_output_ops weft_output_text_ops = { .for_people = true, .stream = stream, .whole = whole };
