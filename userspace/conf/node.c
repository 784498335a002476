/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/node.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

/* Of one document: 10^6 aliases are one mistake. */
#define MAX_PROBLEMS 10

#define TAG_PREFIX "tag:yaml.org,2002:"

/* libyaml takes time in the square of the depth: past this the text is given up, where 64 only refuses the document. */
#define GIVE_UP_DEPTH 1000

struct open {
	struct weft_yaml *node;
	struct weft_yaml **tail;
	const char *key; /* a mapping's key whose value comes next; NULL: a key comes next */
	const char *last_key; /* of the value that is being read */
	unsigned int key_line;
};

struct weft_yaml_reader {
	yaml_parser_t parser;
	struct weft_arena *arena;
	const char *file;
	bool parser_ready;
	/* of the document being read */
	struct weft_yaml *root;
	struct open open[WEFT_CONF_MAX_DEPTH];
	unsigned int depth;
	unsigned int skip; /* depth inside of something that is not kept */
	bool full; /* no node is kept any more */
	uint32_t nodes;
	struct weft_problems *problems;
};

static bool any_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

static enum weft_scalar number(const char *text)
{
	static const char *const odd[] = { ".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL };
	const char *at = text + (*text == '-' || *text == '+');
	size_t digits, more = 0;

	if (any_of(at, odd))
		return WEFT_SCALAR_FLOAT;
	if (*at == '0' && at[1] && strchr("xob", at[1])) {
		digits = strspn(at + 2, at[1] == 'x' ? "0123456789abcdefABCDEF_" : at[1] == 'o' ? "01234567_" : "01_");
		return digits && !at[2 + digits] ? WEFT_SCALAR_INT : WEFT_SCALAR_STRING;
	}
	digits = *at == '_' ? 0 : strspn(at, "0123456789_");
	at += digits;
	if (digits && !*at)
		return WEFT_SCALAR_INT;
	if (*at == '.') {
		more = strspn(++at, "0123456789_");
		at += more;
	}
	if (!digits && !more)
		return WEFT_SCALAR_STRING;
	if (*at == 'e' || *at == 'E') {
		at++;
		at += *at == '-' || *at == '+';
		more = strspn(at, "0123456789");
		if (!more)
			return WEFT_SCALAR_STRING;
		at += more;
	}
	return *at ? WEFT_SCALAR_STRING : WEFT_SCALAR_FLOAT;
}

bool weft_yaml_is_null(const struct weft_yaml *node)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };

	return node->type == WEFT_YAML_SCALAR && !node->quoted && node->count <= 4 && any_of(node->text, nulls);
}

enum weft_scalar weft_yaml_scalar(const struct weft_yaml *node)
{
	static const char *const bools[] = { "true", "True", "TRUE", "false", "False", "FALSE", "y", "Y",
					     "yes", "Yes", "YES", "n", "N", "no", "No", "NO",
					     "on", "On", "ON", "off", "Off", "OFF", NULL };

	if (node->quoted)
		return WEFT_SCALAR_STRING;
	if (weft_yaml_is_null(node))
		return WEFT_SCALAR_NULL;
	if (node->count <= 5 && any_of(node->text, bools))
		return WEFT_SCALAR_BOOL;
	return strchr("0123456789+-.", node->text[0]) ? number(node->text) : WEFT_SCALAR_STRING;
}

const struct weft_yaml *weft_yaml_get(const struct weft_yaml *node, const char *key)
{
	if (!node || node->type != WEFT_YAML_MAPPING)
		return NULL;
	for (const struct weft_yaml *child = node->first; child; child = child->next)
		if (strcmp(child->key, key) == 0)
			return child;
	return NULL;
}

const struct weft_yaml *weft_yaml_at(const struct weft_yaml *node, size_t index)
{
	const struct weft_yaml *child;

	if (!node || node->type != WEFT_YAML_SEQUENCE)
		return NULL;
	for (child = node->first; child && index; child = child->next)
		index--;
	return child;
}

struct weft_yaml_reader *weft_yaml_reader_new(const char *file, const char *text, size_t size)
{
	weft_cleanup(weft_yaml_reader_freep) struct weft_yaml_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	reader->file = file;
	reader->arena = weft_arena_new(0);
	if (!reader->arena || !yaml_parser_initialize(&reader->parser))
		return NULL;
	reader->parser_ready = true;
	yaml_parser_set_encoding(&reader->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, size);
	return weft_take_ptr(reader);
}

struct weft_yaml_reader *weft_yaml_reader_free(struct weft_yaml_reader *reader)
{
	if (!reader)
		return NULL;
	if (reader->parser_ready)
		yaml_parser_delete(&reader->parser);
	weft_arena_free(reader->arena);
	free(reader);
	return NULL;
}

void weft_yaml_document_done(struct weft_yaml_document *document)
{
	weft_problems_done(&document->problems);
	*document = (struct weft_yaml_document){ 0 };
}

/* The innermost open node's place, "spec.ports[3]". */
static int path_of(const struct weft_yaml_reader *reader, struct weft_buf *path)
{
	int r = weft_buf_add(path, "", 0);

	for (unsigned int i = 0; r == 0 && i < reader->depth; i++) {
		const struct open *open = &reader->open[i];

		bool inside = i + 1 < reader->depth;
		const char *key = inside ? open->last_key : open->key;

		if (open->node->type == WEFT_YAML_SEQUENCE)
			r = weft_buf_printf(path, "[%u]", open->node->count - inside);
		else if (key)
			r = weft_buf_printf(path, "%s%.80s", path->size ? "." : "", key);
	}
	return r;
}

static int refuse(struct weft_yaml_reader *reader, unsigned int line, const char *text)
{
	weft_buf_done_on_exit struct weft_buf path = WEFT_BUF_INIT;

	if (reader->problems->count >= MAX_PROBLEMS)
		return 0;
	if (path_of(reader, &path) < 0)
		return -ENOMEM;
	return weft_problems_add(reader->problems, WEFT_SEVERITY_ERROR, reader->file, line, NULL, path.data, "%s", text);
}

static int by_key_then_line(const void *a, const void *b)
{
	const struct weft_yaml *x = *(const struct weft_yaml *const *)a, *y = *(const struct weft_yaml *const *)b;
	int order = strcmp(x->key, y->key);

	return order ? order : (x->key_line > y->key_line) - (x->key_line < y->key_line);
}

static int refuse_twin(struct weft_yaml_reader *reader, const struct weft_yaml *first, const struct weft_yaml *second)
{
	char text[256];

	snprintf(text, sizeof(text), "the key `%.80s` is on line %u and again on line %u; keep one of them", second->key,
		 first->key_line, second->key_line);
	return refuse(reader, second->key_line, text);
}

static int refuse_twins(struct weft_yaml_reader *reader, const struct weft_yaml *mapping)
{
	weft_free_on_exit const struct weft_yaml **sorted = NULL;
	size_t count = 0;
	int r = 0;

	/* Sorting is for the mapping that somebody made to be slow; real ones are this small. */
	if (mapping->count <= 16) {
		for (const struct weft_yaml *b = mapping->first; b; b = b->next)
			for (const struct weft_yaml *a = mapping->first; r == 0 && a != b; a = a->next)
				if (strcmp(a->key, b->key) == 0) {
					r = refuse_twin(reader, a, b);
					break;
				}
		return r;
	}
	sorted = calloc(mapping->count, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (const struct weft_yaml *child = mapping->first; child; child = child->next)
		sorted[count++] = child;
	qsort(sorted, count, sizeof(*sorted), by_key_then_line);
	for (size_t i = 1; r == 0 && i < count; i++)
		if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0)
			r = refuse_twin(reader, sorted[i - 1], sorted[i]);
	return r;
}

/* A node for the place where the parser is; NULL: out of memory. */
static struct weft_yaml *attach(struct weft_yaml_reader *reader, enum weft_yaml_type type, unsigned int line)
{
	struct weft_yaml *node = weft_arena_alloc(reader->arena, sizeof(*node));

	if (!node)
		return NULL;
	node->type = (uint8_t)type;
	node->line = line;
	if (type == WEFT_YAML_SCALAR)
		node->text = "";
	if (reader->depth) {
		struct open *open = &reader->open[reader->depth - 1];

		node->key = open->key;
		node->key_line = open->key_line;
		*open->tail = node;
		open->tail = &node->next;
		open->node->count++;
		open->last_key = open->key;
		open->key = NULL;
	} else {
		reader->root = node;
	}
	return node;
}

static bool key_comes_next(const struct weft_yaml_reader *reader)
{
	const struct open *open = reader->depth ? &reader->open[reader->depth - 1] : NULL;

	return open && open->node->type == WEFT_YAML_MAPPING && !open->key;
}

/* *ret_quoted: -1 leave as it is. */
static int check_tag(struct weft_yaml_reader *reader, const char *tag, unsigned int line, bool scalar, int *ret_quoted)
{
	static const char *const plain[] = { TAG_PREFIX "int", TAG_PREFIX "bool", TAG_PREFIX "null", TAG_PREFIX "float", NULL };
	static const char *const collection[] = { TAG_PREFIX "map", TAG_PREFIX "seq", NULL };
	char text[256];

	*ret_quoted = -1;
	if (!tag || strcmp(tag, "!") == 0)
		return 0;
	if (scalar && strcmp(tag, TAG_PREFIX "str") == 0)
		*ret_quoted = 1;
	else if (scalar && any_of(tag, plain))
		*ret_quoted = 0;
	else if (scalar || !any_of(tag, collection)) {
		snprintf(text, sizeof(text), "the tag `%.80s` is not accepted; write the value without it", tag);
		return refuse(reader, line, text);
	}
	return 0;
}

static int take_scalar(struct weft_yaml_reader *reader, const yaml_event_t *event, unsigned int line)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t size = event->data.scalar.length;
	bool key = key_comes_next(reader);
	struct weft_yaml *node;
	int quoted, r;

	r = check_tag(reader, (const char *)event->data.scalar.tag, line, true, &quoted);
	if (r == 0 && size > WEFT_CONF_MAX_STRING) {
		r = refuse(reader, line, "this text is longer than 64 KiB, the most that one value may have");
		text = "";
		size = 0;
	}
	if (r == 0 && memchr(text, '\0', size)) {
		r = refuse(reader, line, "a NUL character (\\0) stands inside of this text; take it out");
		size = strlen(text);
	}
	if (r < 0)
		return r;
	text = weft_arena_copy(reader->arena, text, size);
	if (!text)
		return -ENOMEM;
	if (key) {
		struct open *open = &reader->open[reader->depth - 1];

		open->key = text;
		open->key_line = line;
		if (strcmp(text, "<<") == 0 && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
			return refuse(reader, line, "merge keys (`<<`) are not accepted; write the fields out");
		return 0;
	}
	node = attach(reader, WEFT_YAML_SCALAR, line);
	if (!node)
		return -ENOMEM;
	node->text = text;
	node->count = (uint32_t)size;
	node->quoted = quoted >= 0 ? quoted : event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	return 0;
}

static int open_collection(struct weft_yaml_reader *reader, const char *tag, enum weft_yaml_type type, unsigned int line)
{
	struct weft_yaml *node;
	int ignored, r;

	r = check_tag(reader, tag, line, false, &ignored);
	if (r < 0)
		return r;
	if (key_comes_next(reader)) {
		struct open *open = &reader->open[reader->depth - 1];

		r = refuse(reader, line, "a key must be a word, not a list or a mapping");
		open->key = "";
		open->key_line = line;
		reader->skip = 1;
		return r;
	}
	if (reader->depth == WEFT_CONF_MAX_DEPTH) {
		r = refuse(reader, line, "lists and mappings are nested more than 64 deep");
		reader->skip = 1;
		return r < 0 ? r : attach(reader, WEFT_YAML_SCALAR, line) ? 0 : -ENOMEM;
	}
	node = attach(reader, type, line);
	if (!node)
		return -ENOMEM;
	reader->open[reader->depth++] = (struct open){ .node = node, .tail = &node->first };
	return 0;
}

static int take_event(struct weft_yaml_reader *reader, const yaml_event_t *event)
{
	unsigned int line = (unsigned int)event->start_mark.line + 1;
	const yaml_char_t *anchor = NULL;
	bool start = event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT;
	bool end = event->type == YAML_SEQUENCE_END_EVENT || event->type == YAML_MAPPING_END_EVENT;
	int r = 0;

	if (reader->full) {
		reader->skip += start;
		reader->skip -= end && reader->skip;
		return 0;
	}
	if (!end && ++reader->nodes > WEFT_CONF_MAX_ITEMS) {
		reader->full = true;
		return refuse(reader, line, "the document has more than 1000000 values; split it");
	}
	if (reader->skip) {
		reader->skip += start;
		reader->skip -= end;
		return 0;
	}
	if (event->type == YAML_SCALAR_EVENT)
		anchor = event->data.scalar.anchor;
	else if (event->type == YAML_SEQUENCE_START_EVENT)
		anchor = event->data.sequence_start.anchor;
	else if (event->type == YAML_MAPPING_START_EVENT)
		anchor = event->data.mapping_start.anchor;
	if (anchor)
		r = refuse(reader, line, "anchors (`&name`) are not accepted; write the value where it is needed");
	if (r < 0)
		return r;

	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return take_scalar(reader, event, line);
	case YAML_ALIAS_EVENT:
		r = refuse(reader, line, "aliases (`*name`) are not accepted; write the value out");
		if (r == 0 && key_comes_next(reader)) {
			reader->open[reader->depth - 1].key = "";
			reader->open[reader->depth - 1].key_line = line;
			return 0;
		}
		return r < 0 ? r : attach(reader, WEFT_YAML_SCALAR, line) ? 0 : -ENOMEM;
	case YAML_SEQUENCE_START_EVENT:
		return open_collection(reader, (const char *)event->data.sequence_start.tag, WEFT_YAML_SEQUENCE, line);
	case YAML_MAPPING_START_EVENT:
		return open_collection(reader, (const char *)event->data.mapping_start.tag, WEFT_YAML_MAPPING, line);
	case YAML_MAPPING_END_EVENT:
		r = refuse_twins(reader, reader->open[reader->depth - 1].node);
		/* fall through */
	case YAML_SEQUENCE_END_EVENT:
		reader->depth--;
		return r;
	default:
		return 0;
	}
}

/* The parser broke at its own mark. */
static int refuse_text(struct weft_yaml_reader *reader, unsigned int from)
{
	const yaml_parser_t *parser = &reader->parser;
	const char *problem = parser->problem ? parser->problem : "unknown";
	bool reading = parser->error == YAML_READER_ERROR;
	unsigned int line = (unsigned int)(reading ? parser->mark.line : parser->problem_mark.line) + 1;
	char where[64] = "";

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (!reading)
		snprintf(where, sizeof(where), ", column %zu", parser->problem_mark.column + 1);
	if (from && from < line)
		snprintf(where + strlen(where), sizeof(where) - strlen(where), ", in the document of line %u", from);
	return weft_problems_add(reader->problems, WEFT_SEVERITY_ERROR, reader->file, line, NULL, NULL,
				 "this is not YAML (%s%s); nothing from this document on is used until it is mended", problem,
				 where);
}

int weft_yaml_read(struct weft_yaml_reader *reader, struct weft_yaml_document *ret_document)
{
	struct weft_yaml_document document = { 0 };
	int r = 0, result = -1;

	weft_arena_clear(reader->arena);
	reader->root = NULL;
	reader->depth = reader->skip = reader->nodes = 0;
	reader->full = false;
	reader->problems = &document.problems;
	while (r == 0 && result < 0) {
		yaml_event_t event;

		if (!yaml_parser_parse(&reader->parser, &event)) {
			r = refuse_text(reader, document.line);
			result = 2;
			break;
		}
		switch (event.type) {
		case YAML_STREAM_END_EVENT:
			result = 0;
			break;
		case YAML_DOCUMENT_START_EVENT:
			document.line = (unsigned int)event.start_mark.line + 1;
			break;
		case YAML_DOCUMENT_END_EVENT:
			document.closed |= !event.data.document_end.implicit;
			result = 1;
			break;
		case YAML_MAPPING_START_EVENT:
			if (!reader->nodes)
				document.closed = event.data.mapping_start.style == YAML_FLOW_MAPPING_STYLE;
			r = take_event(reader, &event);
			break;
		case YAML_SEQUENCE_START_EVENT:
			if (!reader->nodes)
				document.closed = event.data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
			r = take_event(reader, &event);
			break;
		case YAML_STREAM_START_EVENT:
		case YAML_NO_EVENT:
			break;
		default:
			r = take_event(reader, &event);
		}
		yaml_event_delete(&event);
		if (r == 0 && result < 0 && reader->skip > GIVE_UP_DEPTH)
			result = 2;
	}
	reader->problems = NULL;
	if (r < 0) {
		weft_yaml_document_done(&document);
		return r;
	}
	document.root = reader->root;
	if (document.root)
		document.line = document.root->line;
	*ret_document = document;
	return result == 2 ? -EBADMSG : result;
}
