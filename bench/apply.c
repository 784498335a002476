/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weft-apply: how long configuration takes on its way into the kernel, without the agent around it.
 *
 * Loads a folder of resources into an instance of its own (a cgroup and a pin folder that nobody else uses), then
 * makes one change after the other: each document of CHANGES replaces the resource of its name. Times, as one JSON object: parsing
 * of the folder; first load, from parsed resources to the last map write; each change, from a parsed resource to the last map write.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/io.h"
#include "conf/conf.h"
#include "kernel/kernel.h"
#include "model/model.h"

struct resources {
	struct weft_resource **at;
	size_t count, room;
};

static void die(const char *what, const struct weft_err *err)
{
	fprintf(stderr, "weft-apply: %s: %s\n", what, err ? err->text : strerror(errno));
	exit(1);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void parse(const char *name, const char *text, size_t size, struct resources *resources)
{
	struct weft_conf_file conf = { 0 };
	struct weft_problems problems = { 0 };
	weft_buf_done_on_exit struct weft_buf sentence = WEFT_BUF_INIT;

	if (weft_conf_parse(name, text, size, true, &conf, &problems) < 0)
		die(name, NULL);
	if (problems.errors) {
		weft_problem_print(&problems.item[0], &sentence);
		fprintf(stderr, "weft-apply: %s\n", sentence.data);
		exit(1);
	}
	if (weft_grow(&resources->at, &resources->room, resources->count + conf.resource_count, sizeof(*resources->at)) < 0)
		die(name, NULL);
	for (size_t i = 0; i < conf.resource_count; i++)
		resources->at[resources->count++] = weft_take_ptr(conf.resource[i]);
	weft_conf_file_done(&conf);
	weft_problems_done(&problems);
}

static void read_file(int dir, const char *name, struct weft_buf *text)
{
	weft_close_on_exit int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || weft_read_all(fd, 64 << 20, text) < 0)
		die(name, NULL);
}

/* The files are read first: what is timed is parsing. */
static uint64_t parse_folder(const char *path, struct resources *resources)
{
	weft_closedir_on_exit DIR *dir = opendir(path);
	struct dirent *entry;
	uint64_t spent = 0, began;

	if (!dir)
		die(path, NULL);
	while ((entry = readdir(dir))) {
		weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
		size_t length = strlen(entry->d_name);

		if (entry->d_name[0] == '.' || length < 5 || strcmp(entry->d_name + length - 5, ".yaml") != 0)
			continue;
		read_file(dirfd(dir), entry->d_name, &text);
		began = now_ns();
		parse(entry->d_name, text.data, text.size, resources);
		spent += now_ns() - began;
	}
	return spent;
}

/* Document by document: to one file they would be many versions of one resource, which is a mistake. */
static void parse_changes(const char *path, struct resources *resources)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	static const char separator[] = "---\n";
	char *document, *end;

	read_file(AT_FDCWD, path, &text);
	for (document = text.data; document; document = end) {
		end = strstr(document + 1, separator);
		parse(path, document, end ? (size_t)(end - document) : strlen(document), resources);
	}
}

struct times {
	uint64_t put, commit, apply;
};

/* Puts `count` resources and carries the plan out. What was problem-free alone must be so together. */
static struct times change(struct weft_model *model, struct weft_kernel *kernel, struct weft_resource **resources, size_t count,
			   const uint64_t *live, size_t live_count, struct weft_plan *plan)
{
	struct weft_problems problems = { 0 };
	struct weft_err err = { "" };
	struct times times;
	uint64_t began = now_ns();
	uint32_t failed;

	for (size_t i = 0; i < count; i++)
		if (weft_model_put(model, weft_take_ptr(resources[i])) < 0)
			die("put", NULL);
	times.put = now_ns() - began;
	if (weft_model_commit(model, now_ns(), live, live_count, plan, &problems, &err) < 0)
		die("commit", &err);
	times.commit = now_ns() - began - times.put;
	if (weft_kernel_apply(kernel, plan->batch.data, plan->batch.size, &failed, &err) < 0)
		die("apply", &err);
	times.apply = now_ns() - began - times.put - times.commit;
	if (problems.errors) {
		fprintf(stderr, "weft-apply: %s\n", problems.item[0].text);
		exit(1);
	}
	weft_problems_done(&problems);
	return times;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

static void print_quantiles(const char *name, uint64_t *ns, size_t count)
{
	printf(",\"%s\":{\"count\":%zu", name, count);
	if (count) {
		qsort(ns, count, sizeof(*ns), compare);
		printf(",\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f", (double)ns[count / 2] / 1e3, (double)ns[count * 99 / 100] / 1e3,
		       (double)ns[count - 1] / 1e3);
	}
	printf("}");
}

int main(int argc, char **argv)
{
	struct weft_model_options model_options = { .node = "bench" };
	struct weft_kernel_options kernel_options;
	struct resources resources = { 0 }, changes = { 0 };
	struct weft_plan plan = { 0 };
	struct weft_err err = { "" };
	struct weft_kernel *kernel;
	struct weft_model *model;
	struct rusage usage;
	struct times first;
	uint64_t parse_ns, *live, *total, *commits, *applies;
	size_t live_count, batch_bytes, count, max_batch = 0;
	bool adopted;

	if (argc != 5) {
		fputs("weft-apply CGROUP PINS FOLDER CHANGES\n", stderr);
		return 2;
	}
	parse_ns = parse_folder(argv[3], &resources);
	parse_changes(argv[4], &changes);
	kernel_options = (struct weft_kernel_options){ .cgroup = argv[1], .pins = argv[2], .features = weft_feature_probe(0) };
	if (weft_kernel_open(&kernel_options, &kernel, &adopted, &err) < 0)
		die(argv[2], &err);
	weft_kernel_capacity(kernel, &model_options.capacity);
	/* Nobody connects to these endpoints: all live counts are 0. */
	live_count = model_options.capacity.max_entries[WEFT_MAP_ENDPOINT];
	live = calloc(live_count, sizeof(*live));
	count = changes.count;
	total = calloc(3 * count + 3, sizeof(*total));
	model = weft_model_new(&model_options, weft_names_new());
	if (!live || !total || !model)
		die("model", NULL);
	commits = total + count;
	applies = commits + count;

	first = change(model, kernel, resources.at, resources.count, NULL, 0, &plan);
	batch_bytes = plan.batch.size;
	printf("{\"resources\":%zu,\"parse_ms\":%.3f,\"first\":{\"put_ms\":%.3f,\"commit_ms\":%.3f,\"apply_ms\":%.3f,\"total_ms\":%.3f,"
	       "\"batch_bytes\":%zu,\"services\":%zu,\"endpoints\":%zu}",
	       resources.count, (double)parse_ns / 1e6, (double)first.put / 1e6, (double)first.commit / 1e6, (double)first.apply / 1e6,
	       (double)(first.put + first.commit + first.apply) / 1e6, batch_bytes, plan.services_changed, plan.endpoints_changed);
	weft_plan_done(&plan);
	for (size_t i = 0; i < count; i++) {
		struct times one;

		plan = (struct weft_plan){ 0 };
		one = change(model, kernel, &changes.at[i], 1, live, live_count, &plan);
		if (plan.batch.size == 0) {
			fprintf(stderr, "weft-apply: change %zu changed nothing\n", i);
			return 1;
		}
		if (plan.batch.size > max_batch)
			max_batch = plan.batch.size;
		weft_plan_done(&plan);
		total[i] = one.put + one.commit + one.apply;
		commits[i] = one.put + one.commit;
		applies[i] = one.apply;
	}
	print_quantiles("change_us", total, count);
	print_quantiles("change_commit_us", commits, count);
	print_quantiles("change_apply_us", applies, count);
	getrusage(RUSAGE_SELF, &usage);
	printf(",\"change_batch_bytes_max\":%zu,\"max_rss_bytes\":%ld}\n", max_batch, usage.ru_maxrss * 1024);
	weft_model_free(model);
	weft_kernel_close(kernel);
	free(live);
	free(total);
	free(resources.at);
	free(changes.at);
	if (weft_kernel_uninstall(argv[2], &err) < 0)
		die("uninstall", &err);
	return 0;
}
