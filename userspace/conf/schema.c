/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/schema.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "base/addr.h"

#define LABEL_MAX 63
#define SUBDOMAIN_MAX 253
#define PORT_NAME_MAX 15
#define SHOWN 80 /* of somebody's text in a message */

/* ---- words of names ---- */

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

static bool is_label(const char *text, size_t size)
{
	if (!size || size > LABEL_MAX || !is_lower_alnum(text[0]) || !is_lower_alnum(text[size - 1]))
		return false;
	for (size_t i = 0; i < size; i++)
		if (!is_lower_alnum(text[i]) && text[i] != '-')
			return false;
	return true;
}

static bool is_subdomain(const char *text, size_t size)
{
	bool after_dot = true;

	if (!size || size > SUBDOMAIN_MAX || !is_lower_alnum(text[size - 1]))
		return false;
	for (size_t i = 0; i < size; i++) {
		bool edge = after_dot || i + 1 == size || text[i + 1] == '.';

		after_dot = text[i] == '.';
		if (after_dot ? edge && (!i || text[i - 1] == '.') : !is_lower_alnum(text[i]) && (text[i] != '-' || edge))
			return false;
	}
	return true;
}

/* The name part of a label's key, and a label's value. */
static bool is_label_word(const char *text, size_t size)
{
	if (!size || size > LABEL_MAX || !is_alnum(text[0]) || !is_alnum(text[size - 1]))
		return false;
	for (size_t i = 0; i < size; i++)
		if (!is_alnum(text[i]) && !strchr("-_.", text[i]))
			return false;
	return true;
}

static bool is_label_key(const char *text)
{
	const char *slash = strchr(text, '/');
	const char *name = slash ? slash + 1 : text;

	return (!slash || is_subdomain(text, (size_t)(slash - text))) && is_label_word(name, strlen(name));
}

const char *weft_check_label_name(const char *text)
{
	return is_label(text, strlen(text)) ?
		       NULL :
		       "a name of at most 63 lower-case letters, digits and `-` that begins and ends with a letter or digit";
}

const char *weft_check_subdomain(const char *text)
{
	return is_subdomain(text, strlen(text)) ?
		       NULL :
		       "a name of at most 253 lower-case letters, digits, `-` and `.` whose parts begin and end with a letter or digit";
}

const char *weft_check_port_name(const char *text)
{
	size_t size = strlen(text);
	bool letter = false;

	for (size_t i = 0; i < size; i++)
		letter |= text[i] >= 'a' && text[i] <= 'z';
	return size <= PORT_NAME_MAX && letter && is_label(text, size) && !strstr(text, "--") ?
		       NULL :
		       "a port name: at most 15 lower-case letters, digits and single `-`, at least one letter";
}

static const char *check_label_value(const char *text)
{
	return !*text || is_label_word(text, strlen(text)) ?
		       NULL :
		       "a label value: at most 63 letters, digits, `-`, `_` and `.` that begins and ends with a letter or digit";
}

/* ---- nearest word ---- */

/* Edits that turn one word into the other (a swap of neighbours is one), or more than `most`. */
static unsigned int distance(const char *a, const char *b, unsigned int most)
{
	enum { LONGEST = 40 };
	unsigned int row[3][LONGEST + 1];
	size_t rows = strlen(a), columns = strlen(b);

	if (rows > LONGEST || columns > LONGEST || (rows > columns ? rows - columns : columns - rows) > most)
		return most + 1;
	for (unsigned int j = 0; j <= columns; j++)
		row[0][j] = j;
	for (unsigned int i = 1; i <= rows; i++) {
		unsigned int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];

		now[0] = i;
		for (unsigned int j = 1; j <= columns; j++) {
			unsigned int best = last[j - 1] + (tolower(a[i - 1]) != tolower(b[j - 1]));

			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			now[j] = best;
		}
	}
	return row[rows % 3][columns];
}

const char *weft_nearest(const char *text, const char *word, const char *so_far)
{
	unsigned int most = strlen(text) < 6 ? 1 : strlen(text) < 9 ? 2 : 3;
	unsigned int new = distance(text, word, most), old = so_far ? distance(text, so_far, most) : most + 1;

	return new < old ? word : so_far;
}

/* ---- problems ---- */

static int add_path(struct weft_buf *path, const struct weft_at *at)
{
	int r;

	if (!at)
		return 0;
	r = add_path(path, at->up);
	if (r < 0)
		return r;
	if (!at->key)
		return weft_buf_printf(path, "[%zu]", at->index);
	if (!is_label_key(at->key) || strpbrk(at->key, "./"))
		return weft_buf_printf(path, "[%.*s]", SHOWN, at->key);
	return weft_buf_printf(path, "%s%s", path->size ? "." : "", at->key);
}

static void add_problem(struct weft_decode *decode, enum weft_severity severity, unsigned int line, const char *path,
			const char *format, va_list args)
{
	weft_free_on_exit char *text = NULL;

	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	if (!text || weft_problems_add(decode->problems, severity, decode->file, line, decode->resource, path, "%s", text) < 0)
		decode->status = -ENOMEM;
	decode->errors += severity == WEFT_SEVERITY_ERROR;
}

void weft_decode_problem(struct weft_decode *decode, enum weft_severity severity, const struct weft_yaml *node,
			 const struct weft_at *at, const char *format, ...)
{
	weft_buf_done_on_exit struct weft_buf path = WEFT_BUF_INIT;
	va_list args;

	if (add_path(&path, at) < 0)
		decode->status = -ENOMEM;
	va_start(args, format);
	add_problem(decode, severity, node->line, path.data, format, args);
	va_end(args);
}

/* The line of the deepest node that `path` leads to. */
static unsigned int line_of(const struct weft_yaml *node, const char *path)
{
	unsigned int line = node->line;

	while (node && *path) {
		char key[sizeof(struct weft_path)];
		size_t size;

		if (*path == '[') {
			size = strcspn(++path, "]");
			snprintf(key, sizeof(key), "%.*s", (int)size, path);
			node = node->type == WEFT_YAML_SEQUENCE ? weft_yaml_at(node, strtoul(key, NULL, 10)) :
								  weft_yaml_get(node, key);
			path += size + (path[size] == ']');
		} else {
			path += *path == '.';
			size = strcspn(path, ".[");
			snprintf(key, sizeof(key), "%.*s", (int)size, path);
			node = weft_yaml_get(node, key);
			path += size;
		}
		if (node)
			line = node->key ? node->key_line : node->line;
	}
	return line;
}

static void add_problem_at(struct weft_decode *decode, enum weft_severity severity, const char *path, const char *format,
			   va_list args)
{
	weft_buf_done_on_exit struct weft_buf whole = WEFT_BUF_INIT;

	if (add_path(&whole, decode->root_at) < 0 ||
	    weft_buf_printf(&whole, "%s%s", whole.size && *path && *path != '[' ? "." : "", path) < 0)
		decode->status = -ENOMEM;
	for (size_t i = decode->first_problem; whole.data && i < decode->problems->count; i++)
		if (strcmp(decode->problems->item[i].path, whole.data) == 0 &&
		    decode->problems->item[i].severity >= severity) {
			decode->errors += severity == WEFT_SEVERITY_ERROR;
			return;
		}
	add_problem(decode, severity, line_of(decode->root, path), whole.data, format, args);
}

void weft_decode_error(struct weft_decode *decode, const char *path, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_problem_at(decode, WEFT_SEVERITY_ERROR, path, format, args);
	va_end(args);
}

void weft_decode_notice(struct weft_decode *decode, const char *path, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_problem_at(decode, WEFT_SEVERITY_NOTICE, path, format, args);
	va_end(args);
}

struct weft_path weft_path(const char *format, ...)
{
	struct weft_path path;
	va_list args;

	va_start(args, format);
	vsnprintf(path.text, sizeof(path.text), format, args);
	va_end(args);
	return path;
}

#define fail(decode, node, at, ...) weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at, __VA_ARGS__)

/* ---- scalars ---- */

void *weft_decode_alloc(struct weft_decode *decode, size_t size)
{
	void *memory = weft_arena_alloc(decode->arena, size);

	if (!memory)
		decode->status = -ENOMEM;
	return memory;
}

const char *weft_decode_copy(struct weft_decode *decode, const char *text)
{
	const char *copy = *text ? weft_arena_copy(decode->arena, text, strlen(text)) : "";

	if (!copy)
		decode->status = -ENOMEM;
	return copy ? copy : "";
}

static const char *described(const struct weft_yaml *node)
{
	static const char *const scalar[] = {
		[WEFT_SCALAR_STRING] = "a string", [WEFT_SCALAR_NULL] = "nothing",   [WEFT_SCALAR_BOOL] = "a boolean",
		[WEFT_SCALAR_INT] = "a number",	   [WEFT_SCALAR_FLOAT] = "a number",
	};

	if (node->type == WEFT_YAML_SCALAR)
		return scalar[weft_yaml_scalar(node)];
	return node->type == WEFT_YAML_SEQUENCE ? "a list" : "a mapping";
}

/* The text of a string, NULL if it is none and that was said. */
static const char *string_of(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
			     const char *wanted)
{
	if (node->type == WEFT_YAML_SCALAR && weft_yaml_scalar(node) == WEFT_SCALAR_STRING)
		return node->text;
	if (node->type == WEFT_YAML_SCALAR && *node->text)
		fail(decode, node, at, "`%.*s` is %s in YAML, expected %s; put it in quotes if it is meant as text", SHOWN,
		     node->text, described(node), wanted);
	else
		fail(decode, node, at, "this is %s, expected %s", described(node), wanted);
	return NULL;
}

static void store(void *target, size_t size, uint64_t value)
{
	switch (size) {
	case 1:
		*(uint8_t *)target = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)target = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)target = (uint32_t)value;
		break;
	default:
		*(uint64_t *)target = value;
	}
}

static void decode_bool(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, bool *target)
{
	if (node->type != WEFT_YAML_SCALAR || weft_yaml_scalar(node) != WEFT_SCALAR_BOOL) {
		fail(decode, node, at, "this is %s, expected true or false%s", described(node),
		     node->type == WEFT_YAML_SCALAR && node->quoted ? " without quotes" : "");
		return;
	}
	if (strcasecmp(node->text, "true") == 0)
		*target = true;
	else if (strcasecmp(node->text, "false") == 0)
		*target = false;
	else
		fail(decode, node, at, "`%s` is not accepted for a boolean, write true or false", node->text);
}

static void decode_int(struct weft_decode *decode, const struct weft_type *type, const struct weft_yaml *node,
		       const struct weft_at *at, void *target)
{
	const char *digits;
	int64_t value;

	if (node->type == WEFT_YAML_SCALAR && weft_yaml_scalar(node) == WEFT_SCALAR_FLOAT) {
		fail(decode, node, at, "`%.*s` is not a whole number, expected one from %" PRId64 " to %" PRId64, SHOWN,
		     node->text, type->min, type->max);
		return;
	}
	if (node->type != WEFT_YAML_SCALAR || weft_yaml_scalar(node) != WEFT_SCALAR_INT) {
		fail(decode, node, at, "this is %s, expected a number from %" PRId64 " to %" PRId64 "%s", described(node),
		     type->min, type->max, node->type == WEFT_YAML_SCALAR && node->quoted ? " without quotes" : "");
		return;
	}
	digits = node->text + (node->text[0] == '-' || node->text[0] == '+');
	if (strspn(digits, "0123456789") != strlen(digits) || (digits[0] == '0' && digits[1])) {
		fail(decode, node, at, "`%.*s` is not a decimal number, expected one from %" PRId64 " to %" PRId64
		     " without a leading zero", SHOWN, node->text, type->min, type->max);
		return;
	}
	errno = 0;
	value = strtoll(node->text, NULL, 10);
	if (errno || value < type->min || value > type->max)
		fail(decode, node, at, "%.*s is out of range, expected a number from %" PRId64 " to %" PRId64, SHOWN,
		     node->text, type->min, type->max);
	else
		store(target, type->size, (uint64_t)value);
}

static void decode_word(struct weft_decode *decode, const struct weft_type *type, const struct weft_yaml *node,
			const struct weft_at *at, void *target)
{
	weft_buf_done_on_exit struct weft_buf list = WEFT_BUF_INIT;
	const char *text, *near = NULL;

	for (const struct weft_word *word = type->words; word->word && node->type == WEFT_YAML_SCALAR; word++)
		if (strcmp(node->text, word->word) == 0 && weft_yaml_scalar(node) == WEFT_SCALAR_STRING) {
			store(target, type->size, (uint64_t)word->value);
			return;
		}
	for (const struct weft_word *word = type->words; word->word; word++)
		if (weft_buf_printf(&list, "%s%s", list.size ? word[1].word ? ", " : " or " : "", word->word) < 0)
			decode->status = -ENOMEM;
	text = string_of(decode, node, at, list.data ? list.data : "a word");
	if (!text)
		return;
	for (const struct weft_word *word = type->words; word->word; word++)
		near = weft_nearest(text, word->word, near);
	if (near)
		fail(decode, node, at, "unknown word `%.*s`, did you mean `%s`?", SHOWN, text, near);
	else
		fail(decode, node, at, "unknown word `%.*s`, expected %s", SHOWN, text, list.data ? list.data : "");
}

static void decode_addr(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
			struct weft_addr *target)
{
	const char *text = string_of(decode, node, at, "an IP address");

	if (text && weft_addr_parse(text, target) < 0)
		fail(decode, node, at, "`%.*s` is not an IP address, expected one like 10.0.0.1 or fd00::1", SHOWN, text);
}

static void decode_cidr(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
			struct weft_cidr *target)
{
	const char *text = string_of(decode, node, at, "an IP address or prefix");

	if (text && weft_cidr_parse(text, target) < 0)
		fail(decode, node, at,
		     "`%.*s` is not an IP prefix, expected one like 10.0.0.0/8 or fd00::/8 without bits behind the prefix", SHOWN,
		     text);
}

static void decode_time(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
			int64_t *target)
{
	const char *text = string_of(decode, node, at, "a time");
	struct tm tm = { 0 };
	int hours = 0, minutes = 0, used = 0;
	char sign = '+';
	const char *rest;

	if (!text)
		return;
	/* strptime() takes one digit where RFC 3339 wants two: the shape is checked first. */
	rest = strlen(text) >= 20 && text[10] == 'T' && text[13] == ':' && text[16] == ':' ?
		       strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) :
		       NULL;
	if (rest && *rest == '.') {
		size_t digits = strspn(rest + 1, "0123456789");

		rest = digits ? rest + 1 + digits : NULL;
	}
	if (rest && strcmp(rest, "Z") != 0 &&
	    (strlen(rest) != 6 || sscanf(rest, "%c%2d:%2d%n", &sign, &hours, &minutes, &used) != 3 || used != 6 ||
	     !strchr("+-", sign) || hours < 0 || hours > 23 || minutes < 0 || minutes > 59))
		rest = NULL;
	if (!rest) {
		fail(decode, node, at, "`%.*s` is not a time, expected one like 2026-01-31T12:00:00Z", SHOWN, text);
		return;
	}
	*target = timegm(&tm) - (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
}

static void decode_duration(struct weft_decode *decode, const struct weft_type *type, const struct weft_yaml *node,
			    const struct weft_at *at, uint32_t *target)
{
	const char *text = string_of(decode, node, at, "a duration like 30s or 1m30s");
	const char *rest = text, *units = "hms";
	int64_t total = 0;

	if (!text)
		return;
	while (rest && *rest) {
		size_t digits = strspn(rest, "0123456789");
		const char *unit = digits && digits < 8 && rest[digits] ? strchr(units, rest[digits]) : NULL;

		if (unit) {
			total += strtol(rest, NULL, 10) * (*unit == 'h' ? 3600 : *unit == 'm' ? 60 : 1);
			units = unit + 1;
		}
		rest = unit ? rest + digits + 1 : NULL;
	}
	if (!rest || rest == text)
		fail(decode, node, at, "`%.*s` is not a duration in whole seconds, expected one like 30s, 5m or 1h30m", SHOWN,
		     text);
	else if (total < type->min || total > type->max)
		fail(decode, node, at, "%.*s is out of range, expected a duration from %" PRId64 "s to %" PRId64 "s", SHOWN,
		     text, type->min, type->max);
	else
		*target = (uint32_t)total;
}

/* ---- collections ---- */

static void decode_pairs(struct weft_decode *decode, const struct weft_type *type, const struct weft_yaml *node,
			 const struct weft_at *at, struct weft_pairs *target)
{
	struct weft_pair *pairs;
	size_t count = 0;

	if (node->type != WEFT_YAML_MAPPING) {
		fail(decode, node, at, "this is %s, expected a mapping of names to strings", described(node));
		return;
	}
	pairs = weft_decode_alloc(decode, node->count * sizeof(*pairs));
	if (!pairs)
		return;
	for (const struct weft_yaml *child = node->first; child; child = child->next) {
		struct weft_at here = { .up = at, .key = child->key };
		const char *text = string_of(decode, child, &here, "a string"), *expected;

		if (!is_label_key(child->key)) {
			fail(decode, child, &here, "this key is not a label's or an annotation's name, expected `name` or `domain/name`");
			continue;
		}
		if (!text)
			continue;
		expected = type->check ? type->check(text) : NULL;
		if (expected)
			fail(decode, child, &here, "`%.*s` is not accepted, expected %s", SHOWN, text, expected);
		else
			pairs[count++] = (struct weft_pair){ weft_decode_copy(decode, child->key),
							     weft_decode_copy(decode, text) };
	}
	*target = (struct weft_pairs){ pairs, count };
}

static void decode_list(struct weft_decode *decode, const struct weft_type *type, const struct weft_yaml *node,
			const struct weft_at *at, void *target)
{
	struct {
		const void *item;
		size_t count;
	} list;
	struct weft_arena *kept = decode->arena;
	struct weft_at here = { .up = at };
	char *items;

	if (node->type != WEFT_YAML_SEQUENCE) {
		fail(decode, node, at, "this is %s, expected a list", described(node));
		return;
	}
	if (type->max && node->count > type->max) {
		fail(decode, node, at, "%u items are too many, expected at most %" PRId64, node->count, type->max);
		return;
	}
	if (!node->count)
		return;
	if (type->passing)
		decode->arena = decode->scratch;
	items = weft_decode_alloc(decode, node->count * type->element->size);
	for (const struct weft_yaml *child = items ? node->first : NULL; child; child = child->next, here.index++) {
		if (weft_yaml_is_null(child))
			fail(decode, child, &here, "an item of the list is empty; take it out or fill it in");
		weft_decode_value(decode, type->element, child, &here, items + here.index * type->element->size);
	}
	decode->arena = kept;
	if (!items)
		return;
	list.item = items;
	list.count = node->count;
	memcpy(target, &list, sizeof(list));
}

/* What a table's struct is before anything is read into it: no string of it is ever NULL. */
static void set_defaults(const struct weft_table *table, void *target)
{
	if (table->initial)
		memcpy(target, table->initial, table->size);
	for (size_t i = 0; i < table->field_count; i++) {
		const char **text = (const char **)((char *)target + table->field[i].offset);

		if (table->field[i].type->id == WEFT_TYPE_STRING && !*text)
			*text = "";
	}
}

void weft_decode_value(struct weft_decode *decode, const struct weft_type *type, const struct weft_yaml *node,
		       const struct weft_at *at, void *target)
{
	const char *text, *expected;

	if (type->id == WEFT_TYPE_STRING)
		*(const char **)target = "";
	if (type->id == WEFT_TYPE_OBJECT)
		set_defaults(type->table, target);
	if (weft_yaml_is_null(node) || decode->status < 0)
		return;
	switch (type->id) {
	case WEFT_TYPE_STRING:
		text = string_of(decode, node, at, "a string");
		expected = text && *text && type->check ? type->check(text) : NULL;
		if (expected)
			fail(decode, node, at, "`%.*s` is not accepted, expected %s", SHOWN, text, expected);
		else if (text)
			*(const char **)target = weft_decode_copy(decode, text);
		break;
	case WEFT_TYPE_BOOL:
		decode_bool(decode, node, at, target);
		break;
	case WEFT_TYPE_INT:
		decode_int(decode, type, node, at, target);
		break;
	case WEFT_TYPE_WORD:
		decode_word(decode, type, node, at, target);
		break;
	case WEFT_TYPE_ADDR:
		decode_addr(decode, node, at, target);
		break;
	case WEFT_TYPE_CIDR:
		decode_cidr(decode, node, at, target);
		break;
	case WEFT_TYPE_TIME:
		decode_time(decode, node, at, target);
		break;
	case WEFT_TYPE_DURATION:
		decode_duration(decode, type, node, at, target);
		break;
	case WEFT_TYPE_PAIRS:
		decode_pairs(decode, type, node, at, target);
		break;
	case WEFT_TYPE_OBJECT:
		weft_decode_table(decode, type->table, node, at, target);
		break;
	case WEFT_TYPE_LIST:
		decode_list(decode, type, node, at, target);
		break;
	case WEFT_TYPE_CUSTOM:
		type->decode(decode, node, at, target);
		break;
	}
}

/* ---- tables ---- */

static bool has_word(const char *const *words, const char *text)
{
	for (; words && *words; words++)
		if (strcmp(*words, text) == 0)
			return true;
	return false;
}

static bool is_empty(const struct weft_yaml *node)
{
	return node->type == WEFT_YAML_SCALAR ? weft_yaml_is_null(node) || !*node->text : !node->count;
}

static void refuse_key(struct weft_decode *decode, const struct weft_table *table, const struct weft_yaml *child,
		       const struct weft_at *at)
{
	const struct weft_yaml place = { .line = child->key_line };
	const char *near = NULL;

	for (size_t i = 0; i < table->field_count; i++)
		near = weft_nearest(child->key, table->field[i].key, near);
	for (const char *const *word = table->notice; word && *word; word++)
		near = weft_nearest(child->key, *word, near);
	for (const char *const *word = table->silent; word && *word; word++)
		near = weft_nearest(child->key, *word, near);
	if (near)
		fail(decode, &place, at, "unknown field `%.*s`, did you mean `%s`?", SHOWN, child->key, near);
	else
		fail(decode, &place, at, "unknown field `%.*s`; take it out", SHOWN, child->key);
}

void weft_decode_table(struct weft_decode *decode, const struct weft_table *table, const struct weft_yaml *node,
		       const struct weft_at *at, void *target)
{
	set_defaults(table, target);
	if (node->type != WEFT_YAML_MAPPING) {
		fail(decode, node, at, "this is %s, expected a mapping", described(node));
		return;
	}
	for (const struct weft_yaml *child = node->first; child; child = child->next) {
		struct weft_at here = { .up = at, .key = child->key };
		const struct weft_field *field = NULL;

		for (size_t i = 0; i < table->field_count && !field; i++)
			if (strcmp(table->field[i].key, child->key) == 0)
				field = &table->field[i];
		if (field) {
			if (!weft_yaml_is_null(child))
				weft_decode_value(decode, field->type, child, &here, (char *)target + field->offset);
		} else if (has_word(table->notice, child->key)) {
			if (!is_empty(child))
				weft_decode_problem(decode, WEFT_SEVERITY_NOTICE, child, &here, "not honoured yet");
		} else if (!has_word(table->silent, child->key)) {
			refuse_key(decode, table, child, at);
		}
	}
	for (size_t i = 0; i < table->field_count; i++) {
		const struct weft_yaml *child = table->field[i].required ? weft_yaml_get(node, table->field[i].key) : NULL;

		if (table->field[i].required && (!child || is_empty(child))) {
			struct weft_at here = { .up = at, .key = table->field[i].key };

			fail(decode, child ? child : node, &here, "this field is required");
		}
	}
}

/* ---- types that several kinds use ---- */

static const struct weft_word protocols[] = {
	{ "TCP", IPPROTO_TCP }, { "UDP", IPPROTO_UDP }, { "SCTP", IPPROTO_SCTP }, { NULL, 0 }
};

static const struct weft_word simple_lbs[] = {
	{ "UNSPECIFIED", WEFT_SIMPLE_LB_UNSPECIFIED },	 { "LEAST_REQUEST", WEFT_SIMPLE_LB_LEAST_REQUEST },
	{ "LEAST_CONN", WEFT_SIMPLE_LB_LEAST_REQUEST },	 { "ROUND_ROBIN", WEFT_SIMPLE_LB_ROUND_ROBIN },
	{ "RANDOM", WEFT_SIMPLE_LB_RANDOM },		 { "PASSTHROUGH", WEFT_SIMPLE_LB_PASSTHROUGH },
	{ NULL, 0 },
};

const struct weft_type weft_type_string = { .id = WEFT_TYPE_STRING, .size = sizeof(char *) };
const struct weft_type weft_type_label_name = {
	.id = WEFT_TYPE_STRING, .size = sizeof(char *), .check = weft_check_label_name
};
const struct weft_type weft_type_bool = { .id = WEFT_TYPE_BOOL, .size = sizeof(bool) };
const struct weft_type weft_type_port = { .id = WEFT_TYPE_INT, .size = sizeof(uint16_t), .min = 1, .max = UINT16_MAX };
const struct weft_type weft_type_u32 = { .id = WEFT_TYPE_INT, .size = sizeof(uint32_t), .max = UINT32_MAX };
const struct weft_type weft_type_addr = { .id = WEFT_TYPE_ADDR, .size = sizeof(struct weft_addr) };
const struct weft_type weft_type_addrs = { .id = WEFT_TYPE_LIST, .element = &weft_type_addr };
const struct weft_type weft_type_cidr = { .id = WEFT_TYPE_CIDR, .size = sizeof(struct weft_cidr) };
const struct weft_type weft_type_cidrs = { .id = WEFT_TYPE_LIST, .element = &weft_type_cidr };
const struct weft_type weft_type_strings = { .id = WEFT_TYPE_LIST, .element = &weft_type_string };
const struct weft_type weft_type_labels = { .id = WEFT_TYPE_PAIRS, .check = check_label_value };
const struct weft_type weft_type_protocol = { .id = WEFT_TYPE_WORD, .size = sizeof(uint8_t), .words = protocols };
const struct weft_type weft_type_simple_lb = {
	.id = WEFT_TYPE_WORD, .size = sizeof(enum weft_simple_lb), .words = simple_lbs
};
