/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files -> model -> main. A commit is done in this order: names to disk, batch
 * to main, flags, cuts. What fails is owed: the model is told to distrust what
 * it thinks the kernel has, and the commit is made again, later and later. So
 * nothing here needs to know how far a failed step came.
 */
#include "agent/control.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/batch.h"
#include "agent/last_good.h"
#include "base/io.h"
#include "base/log.h"
#include "kernel/maps.h"

#define NAMES_LIMIT (1u << 30)
#define FIRST_RETRY_MS 100
#define MAX_RETRY_MS 5000
#define TRIM_BYTES (1u << 20) /* of a batch, whose making leaves holes between what is kept */
#define FIRST_GROW_RETRY_MS 1000 /* of weft_affinity: each try loads all programs once more */
#define MAX_GROW_RETRY_MS 60000
#define FREES_MS 1000 /* between looks at live counts while endpoints wait to be freed */

static void commit(struct weft_control *control, bool look);

static void log_over(const char *line)
{
	weft_info("over: %s", line);
}

static void say(void *context, const struct weft_problem *problem)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	struct weft_control *control = context;

	if (!weft_said_again(control->said, problem) || weft_problem_print(problem, &text) < 0)
		return;
	weft_log(problem->severity == WEFT_SEVERITY_ERROR ? WEFT_LOG_ERROR : WEFT_LOG_INFO, "%s", text.data);
}

void weft_control_problems(struct weft_control *control, void (*each)(void *context, const struct weft_problem *problem),
			   void *context)
{
	weft_source_problems(control->source, each, context);
	for (size_t i = 0; i < control->whole.count; i++)
		each(context, &control->whole.item[i]);
	for (size_t i = 0; i < control->host.count; i++)
		each(context, &control->host.item[i]);
	for (size_t i = 0; i < control->unbound.count; i++)
		each(context, &control->unbound.item[i]);
	weft_control_secure_problems(control, each, context);
}

void weft_control_say_problems(struct weft_control *control)
{
	weft_said_begin(control->said);
	weft_control_problems(control, say, control);
	weft_said_end(control->said, log_over);
}

/* ---- the names file ---- */

static int read_names(struct weft_control *control, struct weft_err *err)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	weft_close_on_exit int fd = openat(control->state, "names", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct weft_err bad = { "" };
	int r;

	control->names = weft_names_new();
	if (!control->names)
		return weft_err_set(err, ENOMEM, "out of memory");
	if (fd < 0 && errno == ENOENT)
		return 0;
	r = fd < 0 ? -errno : weft_read_all(fd, NAMES_LIMIT, &text);
	if (r < 0)
		return weft_err_set(err, r, "cannot read %s/names: %m; control runs as the user of --user and must own it; repair it, or remove it and "
				    "give all services new ids",
				    control->options->state);
	r = weft_names_parse(control->names, text.data ? text.data : "", text.size, &bad);
	if (r == -ENOMEM)
		return weft_err_set(err, ENOMEM, "out of memory");
	if (r < 0) {
		weft_warning("%s/names: %s; kept as names.bad, going on with what came before", control->options->state, bad.text);
		weft_write_file_at(control->state, "names.bad", text.data, text.size, 0640);
	}
	return 0;
}

/* Whole and without what is no longer true; then it is only appended to. */
static int rewrite_names(struct weft_control *control)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	int fd, r;

	r = weft_names_print(weft_model_names(control->model), &text);
	if (r == 0)
		r = weft_write_file_at(control->state, "names", text.data, text.size, 0640);
	if (r < 0)
		return r;
	fd = openat(control->state, "names", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (control->names_file >= 0)
		close(control->names_file);
	control->names_file = fd;
	weft_buf_done(&control->journal);
	return 0;
}

/* A record that was written in part would swallow the next: cut it off again. */
static int write_journal(struct weft_control *control)
{
	struct stat st;
	int r;

	if (control->names_file < 0)
		return rewrite_names(control);
	if (control->journal.size == 0)
		return 0;
	if (fstat(control->names_file, &st) < 0)
		return -errno;
	if (st.st_nlink == 0) {
		/* Removed under our hands: what is appended there is lost. */
		close(weft_take_fd(control->names_file));
		return rewrite_names(control);
	}
	r = weft_write_all(control->names_file, control->journal.data, control->journal.size);
	if (r < 0) {
		if (ftruncate(control->names_file, st.st_size) < 0)
			close(weft_take_fd(control->names_file)); /* rewritten as a whole next time */
		return r;
	}
	weft_buf_done(&control->journal);
	return 0;
}

/* ---- one commit ---- */

static void come_back(struct weft_control *control, uint64_t in_ms)
{
	sd_event_source_set_time_relative(control->later, in_ms * 1000);
	sd_event_source_set_enabled(control->later, SD_EVENT_ONESHOT);
}

/* Something could not be done: said once (NULL: it was), tried again later. */
static void owe(struct weft_control *control, const char *what, const char *why)
{
	if (!control->owed && what)
		weft_error("%s: %s; what was in force before stays, trying again", what, why);
	control->owed = true;
	control->apply_failures++;
	control->retry_ms = control->retry_ms == 0 ? FIRST_RETRY_MS : control->retry_ms * 2;
	if (control->retry_ms > MAX_RETRY_MS)
		control->retry_ms = MAX_RETRY_MS;
	if (control->greeted)
		come_back(control, control->retry_ms);
}

/* Connections by endpoint index; *ret_live is the caller's. -EAGAIN: they are still to be recounted. */
static int read_live(struct weft_control *control, uint64_t **ret_live, size_t *ret_count)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_READ, 0);
	weft_cleanup(weft_link_bulk_done) struct weft_link_bulk bulk = { 0 };
	size_t count = control->capacity.max_entries[WEFT_MAP_LIVE];
	weft_free_on_exit uint64_t *live = NULL;
	struct weft_setting setting = { 0 };
	struct weft_batch_walk walk;
	struct weft_err err;
	int r;

	request.arg[0] = 1ull << WEFT_MAP_LIVE | 1ull << WEFT_MAP_SETTING;
	r = weft_control_call(control, &request, NULL, 0, NULL, &bulk, &err);
	if (r < 0)
		return r;
	live = calloc(count + 1, sizeof(*live));
	if (!live)
		return -ENOMEM;
	walk = (struct weft_batch_walk){ .data = bulk.data, .size = bulk.size };
	while ((r = weft_batch_next(&walk)) > 0)
		if (walk.run.map == WEFT_MAP_SETTING && walk.run.count == 1 && walk.values)
			memcpy(&setting, walk.values, sizeof(setting));
	if (r == 0 && setting.flags & WEFT_SETTING_F_RECOUNT)
		r = -EAGAIN;
	if (r < 0)
		return r;
	walk.at = 0;
	while (weft_batch_next(&walk) > 0)
		for (size_t i = 0; walk.run.map == WEFT_MAP_LIVE && walk.values && i < walk.run.count; i++) {
			struct weft_live value;
			__u32 index;

			memcpy(&index, (const char *)walk.keys + i * sizeof(index), sizeof(index));
			memcpy(&value, (const char *)walk.values + i * sizeof(value), sizeof(value));
			if (index < count)
				live[index] = value.count[setting.epoch & 1];
		}
	*ret_live = weft_take_ptr(live);
	*ret_count = count;
	return 0;
}

static int send_batch(struct weft_control *control, const struct weft_buf *batch, struct weft_err *err)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_APPLY, 0);

	if (batch->size == 0)
		return 0;
	return weft_control_call(control, &request, batch->data, batch->size, NULL, NULL, err);
}

/* What is cut leaves `ids`. */
static int send_cut(struct weft_control *control, struct weft_buf *ids, bool udp_only)
{
	unsigned long long cut = 0;
	int r = 0;

	while (ids->size) {
		struct weft_role_message request = weft_role_message(WEFT_ROLE_CUT, 0), answer;
		size_t part = ids->size < WEFT_ROLE_MAX_CUT * sizeof(__u32) ? ids->size : WEFT_ROLE_MAX_CUT * sizeof(__u32);
		struct weft_err err;

		request.count = (__u32)(part / sizeof(__u32));
		request.arg[0] = udp_only;
		/* From the end, which costs nothing. */
		r = weft_control_call(control, &request, ids->data + ids->size - part, part, &answer, NULL, &err);
		if (r < 0)
			break;
		cut += answer.arg[0];
		ids->size -= part;
	}
	if (r == -EOPNOTSUPP) {
		/* The kernel can do it in neither way; `weft feature list` says so. */
		weft_buf_clear(ids);
		r = 0;
	}
	if (cut)
		weft_info("cut %llu sockets of endpoints that are gone or going", cut);
	return r;
}

int weft_control_send_flags(struct weft_control *control, struct weft_err *err)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_SETTING, 0);
	uint32_t flags = (control->bypass ? WEFT_SETTING_F_BYPASS : 0) | weft_model_setting_flags(control->model);
	int r;

	if (control->flags_sent && control->flags == flags)
		return 0;
	request.arg[0] = flags;
	r = weft_control_call(control, &request, NULL, 0, NULL, NULL, err);
	if (r < 0)
		return r;
	control->flags = flags;
	control->flags_sent = true;
	return 0;
}

static bool any(const struct weft_plan *plan)
{
	return plan->batch.size || plan->services_changed || plan->endpoints_changed;
}

/* Names before the batch: an id that is in a map is in the file, whatever happens in between. */
static int carry_out(struct weft_control *control, struct weft_plan *plan)
{
	struct weft_err err = { "" };
	int r;

	if (weft_buf_add(&control->journal, plan->journal.data ? plan->journal.data : "", plan->journal.size) < 0)
		r = -ENOMEM;
	else
		r = write_journal(control);
	if (r < 0) {
		char path[PATH_MAX + sizeof("/names")];

		snprintf(path, sizeof(path), "%s/names", control->options->state);
		errno = -r;
		weft_problems_add(&control->whole, WEFT_SEVERITY_ERROR, path, 0, NULL, NULL,
				  "cannot be written: %m; the configuration that was in force stays, trying again");
		owe(control, NULL, NULL);
		return r;
	}
	r = send_batch(control, &plan->batch, &err);
	if (r == 0)
		r = weft_control_send_flags(control, &err);
	if (r < 0)
		owe(control, "the configuration did not reach the kernel", err.text);
	return r;
}

static void settle_up(struct weft_control *control, const struct weft_plan *plan, uint64_t began_ns)
{
	if (control->owed)
		weft_info("the configuration is in the kernel again");
	control->owed = false;
	control->retry_ms = 0;
	if (any(plan)) {
		control->generation++;
		control->applied_ns = weft_control_now(CLOCK_REALTIME);
		control->apply_ns = weft_control_now(CLOCK_MONOTONIC) - began_ns;
		/* Workloads, opt-outs, and what the grace periods let go of, are no news. */
		weft_log(plan->services_changed || plan->endpoints_changed ? WEFT_LOG_INFO : WEFT_LOG_DEBUG,
			 "applied: %zu services and %zu endpoints changed", plan->services_changed, plan->endpoints_changed);
	}
}

static void announce(struct weft_control *control)
{
	struct weft_init_message message = { .magic = WEFT_ABI_MAGIC, .type = WEFT_INIT_READY };

	if (control->ready)
		return;
	control->ready = true;
	weft_init_send(WEFT_FD_INIT, &message, -1);
}

static void cut(struct weft_control *control)
{
	int r = send_cut(control, &control->cut, false);

	if (r == 0)
		r = send_cut(control, &control->cut_udp, true);
	if (r < 0 && !control->cut_failed) {
		errno = -r;
		weft_warning("cannot cut the sockets of endpoints that are gone: %m; trying again");
	}
	control->cut_failed = r < 0;
	if (r < 0)
		come_back(control, FREES_MS);
}

static __u32 power_of_two(__u32 need)
{
	__u64 size = 1;

	while (size < need)
		size *= 2;
	return size > UINT32_MAX ? UINT32_MAX : (__u32)size;
}

int weft_control_grow(struct weft_control *control, const struct weft_role_capacity *need, struct weft_err *err)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_GROW, 0);
	weft_cleanup(weft_link_bulk_done) struct weft_link_bulk capacity = { 0 };
	struct weft_role_capacity wish = { { 0 } };
	struct weft_err why = { "" };
	bool any_wish = false;
	int r;

	for (__u32 map = 0; map < WEFT_MAP_MAX_; map++) {
		__u32 ceiling = control->options->ceiling.max_entries[map], size = power_of_two(need->max_entries[map]);

		if (need->max_entries[map] <= control->capacity.max_entries[map])
			continue;
		if (need->max_entries[map] > ceiling)
			return weft_err_set(err, E2BIG, "%s grows by itself to %u at most, see --map-max", weft_map_spec(map)->name, ceiling);
		wish.max_entries[map] = size < ceiling ? size : ceiling;
		any_wish = true;
	}
	if (!any_wish)
		return weft_err_set(err, EINVAL, "no map is too small");
	r = weft_control_call(control, &request, &wish, sizeof(wish), NULL, &capacity, &why);
	if (r < 0) {
		errno = -r;
		return weft_err_set(err, r, "main cannot make it larger: %m");
	}
	memcpy(&control->capacity, capacity.data, sizeof(control->capacity));
	r = weft_model_grow(control->model, &control->capacity);
	return r < 0 ? weft_err_set(err, r, "out of memory") : 0;
}

/* Tables that could do with any size: they have their whole one, or next to none while nothing uses them. */
static void grow_whole(struct weft_control *control)
{
	const struct {
		enum weft_map map;
		bool used;
		const char *otherwise;
	} tables[] = {
		{ WEFT_MAP_AFFINITY, weft_model_affine(control->model), "older affinities give way to newer ones" },
		{ WEFT_MAP_CAPTURED, control->flags & WEFT_SETTING_F_SECURE, "connections of attached pods on their way beyond them are refused" },
		{ WEFT_MAP_ATTEST, control->flags & WEFT_SETTING_F_SECURE, "connections on their way beyond them are not attested" },
	};
	struct weft_role_capacity need = { { 0 } };
	struct weft_err err = { "" };
	bool small = false;
	int r = 0;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(tables); i++) {
		__u32 whole = control->options->ceiling.max_entries[tables[i].map];

		if (tables[i].used && control->capacity.max_entries[tables[i].map] < whole) {
			need.max_entries[tables[i].map] = whole;
			small = true;
		}
	}
	if (small)
		r = weft_control_grow(control, &need, &err);
	if (r == 0) {
		control->whole_retry_ms = 0;
		return;
	}
	for (size_t i = 0; !control->whole_retry_ms && i < WEFT_ARRAY_SIZE(tables); i++)
		if (need.max_entries[tables[i].map])
			weft_warning("%s keeps its %u entries, %s: %s", weft_map_spec(tables[i].map)->name,
				     control->capacity.max_entries[tables[i].map], tables[i].otherwise, err.text);
	control->whole_retry_ms = !control->whole_retry_ms ? FIRST_GROW_RETRY_MS : control->whole_retry_ms * 2;
	if (control->whole_retry_ms > MAX_GROW_RETRY_MS)
		control->whole_retry_ms = MAX_GROW_RETRY_MS;
	sd_event_source_set_time_relative(control->whole_later, (uint64_t)control->whole_retry_ms * 1000);
	sd_event_source_set_enabled(control->whole_later, SD_EVENT_ONESHOT);
}

static int on_whole_later(sd_event_source *source, uint64_t usec, void *context)
{
	struct weft_control *control = context;

	(void)usec;
	if (control->greeted && !weft_control_late(control)) {
		grow_whole(control);
		return 0;
	}
	sd_event_source_set_time_relative(source, (uint64_t)control->whole_retry_ms * 1000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* *problems: of the last try only. */
static int commit_model(struct weft_control *control, uint64_t now_ns, const uint64_t *live, size_t live_count, struct weft_plan *plan,
			struct weft_problems *problems, struct weft_err *err)
{
	struct weft_err refusal, why = { "" };
	int r, grown;

	for (;;) {
		weft_problems_done(problems);
		r = weft_model_commit(control->model, now_ns, live, live_count, plan, problems, &refusal);
		if (r != -ENOSPC) {
			*err = refusal;
			return r;
		}
		grown = weft_control_grow(control, &plan->need, &why);
		if (grown < 0)
			return weft_err_set(err, ENOSPC, "%s; %s", refusal.text, why.text);
	}
}

/* `look`: at live counts, so that what waits for its last connection is freed. */
static void commit(struct weft_control *control, bool look)
{
	weft_cleanup(weft_plan_done) struct weft_plan plan = { 0 };
	weft_cleanup(weft_problems_done) struct weft_problems problems = { 0 };
	weft_free_on_exit uint64_t *live = NULL;
	struct weft_err err = { "" };
	uint64_t began_ns = weft_control_now(CLOCK_MONOTONIC);
	size_t live_count = 0;
	int r;

	if (!control->greeted)
		return; /* all of it is made up for when main is back */
	if (weft_control_late(control)) {
		come_back(control, FREES_MS); /* it would hang with main */
		return;
	}
	/* The whole of weft_live is a lot to read: not in the way of a change, nor for every one of a hundred a second. */
	if (look && control->frees && began_ns - control->looked_ns >= FREES_MS * 1000000ull) {
		control->looked_ns = began_ns;
		control->look_ns = 0;
		if (read_live(control, &live, &live_count) < 0 && !control->greeted)
			return;
		began_ns = weft_control_now(CLOCK_MONOTONIC);
	}
	if (!control->whole_retry_ms)
		grow_whole(control);
	if (!control->greeted)
		return;
	r = commit_model(control, began_ns, live, live_count, &plan, &problems, &err);
	if (!control->greeted)
		return;
	weft_problems_done(&control->whole);
	control->whole = problems;
	problems = (struct weft_problems){ 0 };
	if (r < 0) {
		weft_problems_add(&control->whole, WEFT_SEVERITY_ERROR, control->options->config, 0, NULL, NULL,
				  "the configuration as a whole is refused: %s", err.text);
		owe(control, NULL, NULL);
		announce(control);
		return;
	}
	if (weft_buf_add(&control->cut, plan.cut.data ? plan.cut.data : "", plan.cut.size) < 0 ||
	    weft_buf_add(&control->cut_udp, plan.cut_udp.data ? plan.cut_udp.data : "", plan.cut_udp.size) < 0)
		weft_error("out of memory: some sockets of gone endpoints are not cut");
	if (carry_out(control, &plan) < 0) {
		weft_model_distrust(control->model);
		return;
	}
	settle_up(control, &plan, began_ns);
	weft_control_secure_update(control, plan.mesh_changed);
	weft_control_judge(control, &plan.judge);
	/* Once more: what was carried out may be the first that uses one. */
	if (!control->whole_retry_ms)
		grow_whole(control);
	announce(control);
	if (plan.batch.size >= TRIM_BYTES)
		malloc_trim(0);
	control->frees = plan.next_ns != 0;
	if (plan.next_ns) {
		uint64_t now = weft_control_now(CLOCK_MONOTONIC);
		uint64_t next_ns = plan.next_ns, in_ms;

		/* However many changes come meanwhile. */
		if (!live && !control->look_ns)
			control->look_ns = now + FREES_MS * 1000000ull;
		if (control->look_ns && control->look_ns < next_ns)
			next_ns = control->look_ns;
		in_ms = next_ns > now ? (next_ns - now) / 1000000 + 1 : FREES_MS;
		come_back(control, in_ms);
	}
	cut(control);
}

void weft_control_commit(struct weft_control *control)
{
	commit(control, false);
	weft_control_bind(control);
	weft_control_say_problems(control);
}

static int on_later(sd_event_source *source, uint64_t usec, void *context)
{
	(void)source;
	(void)usec;
	commit(context, true);
	weft_control_bind(context);
	weft_control_say_problems(context);
	return 0;
}

static int on_settle(sd_event_source *source, uint64_t usec, void *context)
{
	(void)source;
	(void)usec;
	weft_control_reload(context);
	return 0;
}

static void read_again(struct weft_control *control, int in_ms)
{
	if (in_ms >= 0)
		sd_event_source_set_time_relative(control->settle, (uint64_t)in_ms * 1000);
	sd_event_source_set_enabled(control->settle, in_ms >= 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

void weft_control_reload(struct weft_control *control)
{
	size_t changed = 0;
	int dir = weft_watch_dir(control->watch);
	int r;

	if (!control->model)
		return;
	weft_problems_done(&control->host);
	r = weft_source_scan(control->source, dir, control->model, &changed);
	if (r == -EBADMSG) {
		/* What the kernel has stays as it is while no control touches it. */
		weft_control_say_problems(control);
		sd_event_exit(control->loop, WEFT_EXIT_FAILURE);
		control->greeted = false;
		return;
	}
	if (r < 0) {
		errno = -r;
		weft_problems_add(&control->host, WEFT_SEVERITY_ERROR, control->options->config, 0, NULL, NULL,
				  "cannot be read as a directory: %m; what is in force stays");
	}
	r = weft_source_save(control->source, control->model);
	if (r < 0) {
		char path[PATH_MAX + sizeof("/" WEFT_LAST_GOOD_NAME)];

		snprintf(path, sizeof(path), "%s/" WEFT_LAST_GOOD_NAME, control->options->state);
		errno = -r;
		weft_problems_add(&control->host, WEFT_SEVERITY_ERROR, path, 0, NULL, NULL,
				  "cannot be written: %m; a policy that is refused from now on would not outlive a restart, trying again");
	}
	read_again(control, weft_source_due_ms(control->source));
	if (changed || control->owed || !control->ready)
		commit(control, false);
	weft_control_bind(control);
	weft_control_check_node_ports(control, &control->host);
	weft_control_say_problems(control);
}

static void on_changed(void *context, int dir)
{
	(void)dir;
	weft_control_reload(context);
}

/* ---- a main that is new to us ---- */

/* weft_pod's cookies and the flags in force; the rest is the model's. */
static int look_at_adopted(struct weft_control *control, const struct weft_link_bulk *batch)
{
	struct weft_batch_walk walk = { .data = batch->data, .size = batch->size };
	weft_cleanup(weft_buf_done) struct weft_buf cookies = WEFT_BUF_INIT, attached = WEFT_BUF_INIT;
	struct weft_setting setting;
	size_t count;
	int r;

	while ((r = weft_batch_next(&walk)) > 0) {
		if (walk.run.map == WEFT_MAP_POD && weft_buf_add(&cookies, walk.keys, walk.run.count * sizeof(uint64_t)) < 0)
			return -ENOMEM;
		if (walk.run.map == WEFT_MAP_CAPTURE && weft_buf_add(&attached, walk.keys, walk.run.count * sizeof(uint64_t)) < 0)
			return -ENOMEM;
		if (walk.run.map == WEFT_MAP_SETTING && walk.run.count == 1 && walk.values && !control->ready) {
			memcpy(&setting, walk.values, sizeof(setting));
			control->bypass = setting.flags & WEFT_SETTING_F_BYPASS;
		}
	}
	if (r < 0)
		return r;
	count = cookies.size / sizeof(uint64_t);
	weft_control_bind_forget(control, (uint64_t *)(void *)weft_take_ptr(cookies.data), count);
	count = attached.size / sizeof(uint64_t);
	weft_control_attach_forget(control, (uint64_t *)(void *)weft_take_ptr(attached.data), count);
	return 0;
}

/* When the set of maps was made, which tells it from another; 0 if the batch does not say. */
static uint64_t made_ns(const struct weft_link_bulk *batch)
{
	struct weft_batch_walk walk = { .data = batch->data, .size = batch->size };
	struct weft_setting setting = { 0 };

	while (weft_batch_next(&walk) > 0)
		if (walk.run.map == WEFT_MAP_SETTING && walk.run.count == 1 && walk.values)
			memcpy(&setting, walk.values, sizeof(setting));
	return setting.boot_ns;
}

/* -ESTALE: these are other maps than those that the model mirrors. */
static int adopt(struct weft_control *control, struct weft_err *err)
{
	struct weft_role_message hello = weft_role_message(WEFT_ROLE_HELLO, 0);
	struct weft_role_message read = weft_role_message(WEFT_ROLE_READ, 0);
	weft_cleanup(weft_link_bulk_done) struct weft_link_bulk capacity = { 0 }, batch = { 0 };
	struct weft_role_message ready;
	int r;

	r = weft_control_call(control, &hello, NULL, 0, &ready, &capacity, err);
	if (r < 0)
		return r;
	memcpy(&control->capacity, capacity.data, sizeof(control->capacity)); /* the codec checked its size */
	control->features = ready.arg[0];
	control->forced = ready.arg[1];
	if (!control->ready)
		control->adopted = ready.arg[2] == 1;
	if (!control->model) {
		struct weft_model_options options = { .node = control->options->node, .capacity = control->capacity };

		control->model = weft_model_new(&options, weft_take_ptr(control->names));
		if (!control->model)
			return weft_err_set(err, ENOMEM, "out of memory");
		weft_control_attach_model(control);
	} else if (weft_model_grow(control->model, &control->capacity) < 0) { /* main may have died between growing and saying so */
		return weft_err_set(err, ENOMEM, "out of memory");
	}
	for (__u32 map = 0; map < WEFT_MAP_MAX_; map++)
		if (weft_map_spec(map)->config)
			read.arg[0] |= 1ull << map;
	r = weft_control_call(control, &read, NULL, 0, NULL, &batch, err);
	if (r < 0)
		return r;
	if (control->made_ns && control->made_ns != made_ns(&batch))
		return weft_err_set(err, ESTALE, "main had to make the maps anew");
	if (!control->made_ns) {
		control->made_ns = made_ns(&batch);
		control->counters_unix_s = (weft_control_now(CLOCK_REALTIME) - (weft_control_now(CLOCK_BOOTTIME) - control->made_ns)) / 1000000000;
	}
	r = weft_model_adopt(control->model, batch.size ? batch.data : "", batch.size, weft_control_now(CLOCK_MONOTONIC));
	if (r == 0)
		r = look_at_adopted(control, &batch);
	if (r < 0)
		return weft_err_set(err, r, "what main read from the maps cannot be understood: %m");
	return 0;
}

void weft_control_greet(struct weft_control *control)
{
	struct weft_role_message level = weft_role_message(WEFT_ROLE_LOG_LEVEL, 0);
	struct weft_err err = { "" };
	int r;

	control->greeted = false;
	control->flags_sent = false;
	r = adopt(control, &err);
	if (r == -ESTALE) {
		/* All that the model believes of the kernel is void. A new process knows as little, and that way is well trodden. */
		weft_warning("%s: beginning anew", err.text);
		sd_event_exit(control->loop, WEFT_EXIT_FAILURE);
		return;
	}
	if (r < 0) {
		if (control->link.sock >= 0) /* else it is on its way back already */
			weft_control_lost(control, -EBADMSG, &err);
		return;
	}
	control->greeted = true;
	level.arg[0] = weft_log_level();
	weft_control_call(control, &level, NULL, 0, NULL, NULL, &err);
	weft_control_send_watchers(control);
	control->owed = false;
	if (!control->ready || weft_source_count(control->source) == 0) {
		weft_control_reload(control);
		if (control->ready || !control->greeted)
			return;
	}
	weft_control_commit(control);
}

int weft_control_config_start(struct weft_control *control, struct weft_err *err)
{
	struct weft_err bad = { "" };
	int r;

	r = read_names(control, err);
	if (r < 0)
		return r;
	control->source = weft_source_new(WEFT_SOURCE_SETTLE_MS);
	control->said = weft_said_new();
	if (!control->source || !control->said)
		return weft_err_set(err, ENOMEM, "out of memory");
	r = weft_source_recall(control->source, control->state, &bad);
	if (r == -ENOMEM)
		return weft_err_set(err, ENOMEM, "out of memory");
	if (r < 0)
		weft_warning("%s/" WEFT_LAST_GOOD_NAME ": %s; it is written anew, unless a policy is refused now and needs it",
			     control->options->state, bad.text);
	r = sd_event_add_time(control->loop, &control->later, CLOCK_MONOTONIC, 0, 1000, on_later, control);
	if (r >= 0)
		r = sd_event_source_set_enabled(control->later, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(control->loop, &control->settle, CLOCK_MONOTONIC, 0, 1000, on_settle, control);
	if (r >= 0)
		r = sd_event_source_set_enabled(control->settle, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(control->loop, &control->whole_later, CLOCK_MONOTONIC, 0, 1000, on_whole_later, control);
	if (r >= 0)
		r = sd_event_source_set_enabled(control->whole_later, SD_EVENT_OFF);
	if (r >= 0)
		r = weft_watch_new(control->loop, control->options->config, control->config, on_changed, control, &control->watch);
	if (r < 0)
		return weft_err_set(err, r, "cannot watch %s: %m", control->options->config);
	return 0;
}

void weft_control_config_stop(struct weft_control *control)
{
	sd_event_source_disable_unref(control->later);
	sd_event_source_disable_unref(control->settle);
	sd_event_source_disable_unref(control->whole_later);
	weft_watch_free(control->watch);
	weft_source_free(control->source);
	weft_said_free(control->said);
	weft_model_free(control->model);
	weft_names_free(control->names);
	weft_problems_done(&control->whole);
	weft_problems_done(&control->host);
	weft_problems_done(&control->unbound);
	weft_buf_done(&control->journal);
	weft_buf_done(&control->cut);
	weft_buf_done(&control->cut_udp);
	weft_buf_done(&control->judge);
	if (control->names_file >= 0)
		close(control->names_file);
}
