/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/print.h"

#include <netinet/in.h>
#include <string.h>
#include <time.h>

#include "base/addr.h"
#include "conf/conf.h"
#include "conf/kind.h"

static void add(struct weft_print *print, const char *text, size_t size)
{
	int r = print->status < 0 ? 0 : weft_buf_add(print->out, text, size);

	if (r < 0)
		print->status = r;
}

static void add_text(struct weft_print *print, const char *text)
{
	add(print, text, strlen(text));
}

static void add_margin(struct weft_print *print)
{
	static const char spaces[] = "                                                                ";
	unsigned int columns = 2 * (print->depth - print->dash);

	add(print, spaces, columns < sizeof(spaces) ? columns : sizeof(spaces) - 1);
	if (print->dash)
		add(print, "- ", 2);
	print->dash = false;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Words that stay strings without quotes; all others are quoted, needed or not. */
static bool is_plain(const char *text)
{
	static const char *const reserved[] = { "true", "false", "null", "yes", "no", "on", "off", "y", "n" };
	size_t size = 0;

	if (!is_letter(text[0]))
		return false;
	for (; text[size]; size++)
		if (!is_letter(text[size]) && (text[size] < '-' || text[size] > '9') && text[size] != '_')
			return false;
	for (size_t i = 0; size <= strlen("false") && i < WEFT_ARRAY_SIZE(reserved); i++)
		if (strcasecmp(text, reserved[i]) == 0)
			return false;
	return true;
}

/* Bytes at `text` that must be written as an escape, which goes to `escape`; 0: they may stand as they are. */
static size_t escaped(const unsigned char *text, char *escape, size_t room)
{
	/* Line ends, marks and control characters of YAML above ASCII: as bytes they are folded, dropped or refused. */
	static const struct {
		const char *bytes, *escape;
	} wide[] = { { "\xe2\x80\xa8", "\\u2028" }, { "\xe2\x80\xa9", "\\u2029" }, { "\xef\xbb\xbf", "\\uFEFF" },
		     { "\xef\xbf\xbe", "\\uFFFE" }, { "\xef\xbf\xbf", "\\uFFFF" } };

	if (text[0] < 0x20 || text[0] == '"' || text[0] == '\\' || text[0] == 0x7f) {
		snprintf(escape, room, "\\x%02x", text[0]);
		return 1;
	}
	if (text[0] == 0xc2 && text[1] >= 0x80 && text[1] < 0xa0) {
		snprintf(escape, room, "\\x%02x", text[1]);
		return 2;
	}
	for (size_t i = 0; text[0] >= 0xe2 && i < WEFT_ARRAY_SIZE(wide); i++)
		if (strncmp((const char *)text, wide[i].bytes, 3) == 0) {
			snprintf(escape, room, "%s", wide[i].escape);
			return 3;
		}
	return 0;
}

static void add_string(struct weft_print *print, const char *text)
{
	char escape[8];

	if (is_plain(text)) {
		add_text(print, text);
		return;
	}
	add(print, "\"", 1);
	while (*text) {
		size_t plain = 0, taken = 0;

		while (text[plain] && !(taken = escaped((const unsigned char *)text + plain, escape, sizeof(escape))))
			plain++;
		add(print, text, plain);
		if (taken)
			add_text(print, escape);
		text += plain + taken;
	}
	add(print, "\"", 1);
}

static void add_key(struct weft_print *print, const char *key)
{
	add_margin(print);
	add_string(print, key);
	add(print, ": ", 2);
}

void weft_print_open(struct weft_print *print, const char *key)
{
	add_margin(print);
	add_text(print, key);
	add(print, ":\n", 2);
	print->depth++;
}

void weft_print_open_item(struct weft_print *print)
{
	print->depth++;
	print->dash = true;
}

void weft_print_close(struct weft_print *print)
{
	if (print->dash) {
		add_margin(print);
		add(print, "{}\n", 3);
	}
	print->depth--;
}

void weft_print_string(struct weft_print *print, const char *key, const char *value)
{
	if (!*value)
		return;
	add_key(print, key);
	add_string(print, value);
	add(print, "\n", 1);
}

void weft_print_uint(struct weft_print *print, const char *key, uint64_t value)
{
	char digits[24];
	size_t at = sizeof(digits);

	do
		digits[--at] = (char)('0' + value % 10);
	while (value /= 10);
	add_key(print, key);
	add(print, digits + at, sizeof(digits) - at);
	add(print, "\n", 1);
}

void weft_print_bool(struct weft_print *print, const char *key, bool value)
{
	add_key(print, key);
	add_text(print, value ? "true\n" : "false\n");
}

void weft_print_item(struct weft_print *print, const char *value)
{
	weft_print_open_item(print);
	add_margin(print);
	add_string(print, value);
	add(print, "\n", 1);
	print->depth--;
}

void weft_print_addr(struct weft_print *print, const char *key, const struct weft_addr *addr)
{
	char text[WEFT_ADDR_TEXT];

	weft_print_string(print, key, weft_addr_format(addr, text));
}

void weft_print_protocol(struct weft_print *print, const char *key, uint8_t protocol)
{
	weft_print_string(print, key, protocol == IPPROTO_UDP ? "UDP" : protocol == IPPROTO_SCTP ? "SCTP" : "TCP");
}

void weft_print_pairs(struct weft_print *print, const char *key, const struct weft_pairs *pairs)
{
	if (!pairs->count)
		return;
	weft_print_open(print, key);
	for (size_t i = 0; i < pairs->count; i++) {
		add_key(print, pairs->item[i].key);
		add_string(print, pairs->item[i].value);
		add(print, "\n", 1);
	}
	print->depth--;
}

void weft_print_strings(struct weft_print *print, const char *key, const struct weft_strings *strings)
{
	if (!strings->count)
		return;
	weft_print_open(print, key);
	for (size_t i = 0; i < strings->count; i++)
		weft_print_item(print, strings->item[i]);
	print->depth--;
}

void weft_print_addrs(struct weft_print *print, const char *key, const struct weft_addrs *addrs)
{
	char text[WEFT_ADDR_TEXT];

	if (!addrs->count)
		return;
	weft_print_open(print, key);
	for (size_t i = 0; i < addrs->count; i++)
		weft_print_item(print, weft_addr_format(&addrs->item[i], text));
	print->depth--;
}

void weft_print_cidrs(struct weft_print *print, const char *key, const struct weft_cidrs *cidrs)
{
	char text[WEFT_ADDR_TEXT], whole[WEFT_ADDR_TEXT + 8];

	if (!cidrs->count)
		return;
	weft_print_open(print, key);
	for (size_t i = 0; i < cidrs->count; i++) {
		const struct weft_cidr *cidr = &cidrs->item[i];

		snprintf(whole, sizeof(whole), "%s/%u", weft_addr_format(&cidr->addr, text),
			 weft_addr_is_v4(&cidr->addr) ? cidr->bits - 96 : cidr->bits);
		weft_print_item(print, whole);
	}
	print->depth--;
}

static void print_time(struct weft_print *print, const char *key, int64_t seconds)
{
	time_t when = (time_t)seconds;
	char text[64];
	struct tm tm;

	gmtime_r(&when, &tm);
	/* strftime() has no four digits for the years before 1000. */
	snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		 tm.tm_min, tm.tm_sec);
	weft_print_string(print, key, text);
}

int weft_conf_print(const struct weft_resource *resource, struct weft_buf *out)
{
	const struct weft_kind_ops *ops = weft_kind_ops(resource->kind);
	struct weft_print print = { .out = out };
	size_t before = out->size;

	weft_print_string(&print, "apiVersion", ops->versions[0]);
	weft_print_string(&print, "kind", ops->name);
	weft_print_open(&print, "metadata");
	weft_print_string(&print, "name", resource->meta.name);
	weft_print_string(&print, "namespace", resource->meta.namespace);
	weft_print_pairs(&print, "labels", &resource->meta.labels);
	weft_print_pairs(&print, "annotations", &resource->meta.annotations);
	if (resource->meta.created != INT64_MAX)
		print_time(&print, "creationTimestamp", resource->meta.created);
	/* Only that it is being deleted is known of it. */
	if (resource->meta.deleting)
		print_time(&print, "deletionTimestamp", 0);
	weft_print_close(&print);
	ops->print(&print, resource);
	if (print.status < 0 && out->size > before) {
		out->size = before;
		out->data[before] = '\0';
	}
	return print.status;
}
