/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/last_good.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/table.h"
#include "conf/conf.h"

#define MAGIC "weft policies 1 "
#define LINE_SIZE (sizeof(MAGIC) - 1 + 16 + 1)
#define FILE_NAME_MAX 255

bool weft_last_good_kind(enum weft_kind kind)
{
	return kind == WEFT_KIND_PEER_AUTHENTICATION || kind == WEFT_KIND_AUTHORIZATION_POLICY ||
	       kind == WEFT_KIND_MESH_CONFIG;
}

int weft_last_good_add(struct weft_buf *records, const char *file, unsigned int line,
		       const struct weft_resource *resource)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	int r = weft_conf_print(resource, &text);

	if (r == 0)
		r = weft_buf_printf(records, "%zu %zu %u\n%s\n", strlen(file), text.size, line, file);
	return r < 0 ? r : weft_buf_add(records, text.data, text.size);
}

int weft_last_good_seal(const struct weft_buf *records, struct weft_buf *ret_text)
{
	const char *data = records->size ? records->data : "";
	int r = weft_buf_printf(ret_text, MAGIC "%016" PRIx64 "\n", weft_hash64(data, records->size, 0));

	return r < 0 ? r : weft_buf_add(ret_text, data, records->size);
}

struct reader {
	const char *at, *end;
};

/* A number and the one byte behind it. */
static bool read_number(struct reader *reader, char behind, size_t limit, size_t *ret_number)
{
	size_t number = 0, digits = 0;

	for (; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9'; reader->at++, digits++) {
		number = number * 10 + (size_t)(*reader->at - '0');
		if (number > limit)
			return false;
	}
	if (!digits || reader->at == reader->end || *reader->at++ != behind)
		return false;
	*ret_number = number;
	return true;
}

/* 1: a resource; 0: that was all; -EBADMSG; -ENOMEM. */
static int read_one(struct reader *reader, struct weft_resource **ret_resource)
{
	weft_cleanup(weft_problems_done) struct weft_problems problems = { 0 };
	weft_cleanup(weft_conf_file_done) struct weft_conf_file conf = { 0 };
	char file[FILE_NAME_MAX + 1];
	size_t file_size, text_size, line;
	int r;

	if (reader->at == reader->end)
		return 0;
	if (!read_number(reader, ' ', FILE_NAME_MAX, &file_size) ||
	    !read_number(reader, ' ', WEFT_CONF_MAX_FILE, &text_size) ||
	    !read_number(reader, '\n', UINT32_MAX, &line) ||
	    (size_t)(reader->end - reader->at) < file_size + 1 + text_size || memchr(reader->at, '\0', file_size) ||
	    reader->at[file_size] != '\n')
		return -EBADMSG;
	memcpy(file, reader->at, file_size);
	file[file_size] = '\0';
	reader->at += file_size + 1;
	r = weft_conf_parse(file, reader->at, text_size, true, &conf, &problems);
	if (r < 0)
		return r;
	reader->at += text_size;
	if (conf.torn || conf.refused_count || conf.resource_count != 1 || !weft_last_good_kind(conf.resource[0]->kind))
		return -EBADMSG;
	conf.resource[0]->line = (unsigned int)line;
	*ret_resource = weft_take_ptr(conf.resource[0]);
	return 1;
}

int weft_last_good_parse_records(const char *text, size_t size, weft_last_good_each *each, void *context,
				 struct weft_err *err)
{
	struct reader reader = { text, text + size };
	struct weft_resource *resource;
	int r;

	while ((r = read_one(&reader, &resource)) > 0) {
		r = each(context, resource);
		if (r < 0)
			break;
	}
	return r == -EBADMSG ? weft_err_set(err, EBADMSG, "what stands at byte %zu is not what weft writes there",
					    (size_t)(reader.at - text))
			     : r;
}

int weft_last_good_parse(const char *text, size_t size, weft_last_good_each *each, void *context, struct weft_err *err)
{
	char line[LINE_SIZE + 1];

	if (size < LINE_SIZE || memcmp(text, MAGIC, sizeof(MAGIC) - 1) != 0)
		return weft_err_set(err, EBADMSG, "it does not begin like a file of this version of weft");
	snprintf(line, sizeof(line), MAGIC "%016" PRIx64 "\n", weft_hash64(text + LINE_SIZE, size - LINE_SIZE, 0));
	if (memcmp(text, line, LINE_SIZE) != 0)
		return weft_err_set(
			err, EBADMSG,
			"its content does not match the hash in its first line: it was changed or cut short");
	return weft_last_good_parse_records(text + LINE_SIZE, size - LINE_SIZE, each, context, err);
}
