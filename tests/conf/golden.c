/* SPDX-License-Identifier: Apache-2.0 */
/*
 * golden NAME.in.yaml NAME.ok [--update]: parses the first and compares what
 * was said and understood with the second. Every resource must also survive
 * its own canonical form: printed, parsed and printed again it is the same.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "conf/conf.h"

static int read_file(const char *path, struct weft_buf *ret_text)
{
	weft_close_on_exit int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || weft_read_all(fd, WEFT_CONF_MAX_FILE, ret_text) < 0) {
		fprintf(stderr, "cannot read %s\n", path);
		return -1;
	}
	return 0;
}

static int check_round_trip(const struct weft_resource *resource, const struct weft_buf *text)
{
	struct weft_conf_file again = { 0 };
	struct weft_problems problems = { 0 };
	weft_buf_done_on_exit struct weft_buf second = WEFT_BUF_INIT, said = WEFT_BUF_INIT;
	int r = weft_conf_parse("canonical", text->data, text->size, false, &again, &problems);

	if (r == 0 && again.resource_count == 1 && !problems.errors && !again.torn)
		r = weft_conf_print(again.resource[0], &second);
	else
		r = -1;
	if (r == 0 && (second.size != text->size || memcmp(second.data, text->data, text->size) != 0 ||
		       again.resource[0]->fingerprint != resource->fingerprint))
		r = -1;
	for (size_t i = 0; r < 0 && i < problems.count; i++)
		if (weft_problem_print(&problems.item[i], &said) == 0 && weft_buf_add(&said, "\n", 1) == 0)
			continue;
	if (r < 0)
		fprintf(stderr, "does not survive its canonical form:\n%s--- printed again:\n%s\n%s", text->data,
			second.data ? second.data : "", said.data ? said.data : "");
	weft_problems_done(&problems);
	weft_conf_file_done(&again);
	return r;
}

static int describe(const struct weft_conf_file *conf, const struct weft_problems *problems, struct weft_buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < problems->count; i++) {
		r = weft_buf_printf(out, "# %s ", problems->item[i].severity == WEFT_SEVERITY_ERROR ? "error" : "notice");
		r = r < 0 ? r : weft_problem_print(&problems->item[i], out);
		r = r < 0 ? r : weft_buf_add(out, "\n", 1);
	}
	for (size_t i = 0; r == 0 && i < conf->refused_count; i++)
		r = weft_buf_printf(out, "# refused %s %s/%s\n", weft_kind_name(conf->refused[i].kind),
				    conf->refused[i].namespace, conf->refused[i].name);
	if (r == 0 && conf->torn)
		r = weft_buf_printf(out, "# torn\n");
	for (size_t i = 0; r == 0 && i < conf->resource_count; i++) {
		weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;

		r = weft_conf_print(conf->resource[i], &text);
		r = r < 0 ? r : check_round_trip(conf->resource[i], &text);
		r = r < 0 ? r : weft_buf_printf(out, "--- # line %u\n%s", conf->resource[i]->line, text.data);
	}
	return r;
}

int main(int argc, char **argv)
{
	weft_buf_done_on_exit struct weft_buf in = WEFT_BUF_INIT, want = WEFT_BUF_INIT, have = WEFT_BUF_INIT;
	struct weft_conf_file conf = { 0 };
	struct weft_problems problems = { 0 };
	const char *name;
	int r;

	if (argc < 3 || read_file(argv[1], &in) < 0)
		return 1;
	name = strrchr(argv[1], '/');
	r = weft_conf_parse(name ? name + 1 : argv[1], in.data ? in.data : "", in.size, false, &conf, &problems);
	r = r < 0 ? r : describe(&conf, &problems, &have);
	weft_conf_file_done(&conf);
	weft_problems_done(&problems);
	if (r < 0)
		return 1;
	if (argc > 3 && strcmp(argv[3], "--update") == 0) {
		weft_close_on_exit int fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

		return fd < 0 || weft_write_all(fd, have.data, have.size) < 0;
	}
	if (read_file(argv[2], &want) < 0)
		return 1;
	if (have.size == want.size && memcmp(have.data, want.data, have.size) == 0)
		return 0;
	fprintf(stderr, "%s is not what came out (write it anew with --update):\n%s", argv[2], have.data);
	return 1;
}
