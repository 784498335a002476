/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is in the secure lane: what the model wants attached, in which network
 * namespace, and what main could do about it. Several may name one namespace:
 * main takes whose address it has, and whoever is there stays. As with bindings a namespace may
 * come later, go earlier, and come back under its name as another one. What
 * `weft workload attach` named is written down, for a restart must not detach it.
 */
#include "agent/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/table.h"

#define FILE_NAME "attached"
#define MAX_FILE (1u << 20)

struct weft_attachment {
	UT_hash_handle hh; /* by key */
	char *key; /* NAMESPACE/NAME, a space, netns: its parts are */
	char *who;
	const char *netns;
	uint32_t workload;
	uint64_t cookie; /* 0: not attached */
	uint64_t taken; /* with -EBUSY: the cookie of what another one has */
	uint64_t addresses; /* hash of those that the record has, of which main takes the pod's */
	uint16_t port; /* with -EADDRINUSE: which one */
	int error; /* of the last try */
	bool current; /* main has it like this */
	bool wanted; /* while comparing */
};

struct weft_named {
	UT_hash_handle hh; /* by who */
	char *who;
	char *netns;
	bool earlier; /* in another life of control's: a process's number may be another's by now */
};

static void attachment_free(struct weft_control *control, struct weft_attachment *attachment)
{
	HASH_DELETE(hh, control->attachments, attachment);
	free(attachment->key);
	free(attachment->who);
	free(attachment);
}

/* Takes `key`. */
static struct weft_attachment *attachment_new(struct weft_control *control, char *key)
{
	struct weft_attachment *made = calloc(1, sizeof(*made));
	size_t size = strcspn(key, " ");

	if (made)
		made->who = strndup(key, size);
	if (!made || !made->who) {
		free(made);
		free(key);
		return NULL;
	}
	made->key = key;
	made->netns = key + size + 1;
	HASH_ADD_KEYPTR(hh, control->attachments, made->key, strlen(made->key), made);
	return made;
}

static struct weft_attachment *attachment_of(const struct weft_control *control, const char *key)
{
	struct weft_attachment *attachment;

	HASH_FIND_STR(control->attachments, key, attachment);
	return attachment;
}

/* Who is attached in the namespace that this one wants. */
static const struct weft_attachment *holder_of(const struct weft_control *control, const struct weft_attachment *attachment)
{
	for (const struct weft_attachment *other = control->attachments; other; other = other->hh.next)
		if (other != attachment && other->current &&
		    (strcmp(other->netns, attachment->netns) == 0 || (attachment->taken && other->cookie == attachment->taken)))
			return other;
	return NULL;
}

static int want(void *context, const struct weft_attached *attached)
{
	struct weft_control *control = context;
	uint64_t addresses = weft_hash64(attached->addr, attached->addr_count * sizeof(*attached->addr), 0);
	struct weft_attachment *attachment;
	char *key;

	if (asprintf(&key, "%s/%s %s", attached->namespace, attached->name, attached->netns) < 0)
		return -ENOMEM;
	attachment = attachment_of(control, key);
	if (attachment)
		free(key);
	else
		attachment = attachment_new(control, key);
	if (!attachment)
		return -ENOMEM;
	if (attachment->wanted)
		return 0; /* a Pod and a WorkloadEntry of one name */
	if (attachment->workload != attached->workload || attachment->addresses != addresses)
		attachment->current = false;
	attachment->addresses = addresses;
	attachment->workload = attached->workload;
	attachment->error = attached->identity[0] ? 0 : -ENOKEY;
	attachment->wanted = attached->identity[0];
	return 0;
}

static void detach(struct weft_control *control, uint64_t cookie)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_DETACH, 0);
	struct weft_err err;

	if (!cookie)
		return;
	for (struct weft_attachment *other = control->attachments; other; other = other->hh.next)
		if (other->cookie == cookie)
			return; /* it has another name, or another workload, now */
	request.arg[0] = cookie;
	if (weft_control_call(control, &request, NULL, 0, NULL, NULL, &err) < 0 && control->greeted)
		weft_warning("a network namespace is detached, but not all of it could be cleared: %s", err.text);
}

/* False: it is not among them. */
static bool take_out(uint64_t *cookies, size_t *count, uint64_t cookie)
{
	for (size_t i = 0; i < *count; i++)
		if (cookies[i] == cookie) {
			cookies[i] = cookies[--*count];
			return true;
		}
	return false;
}

/* A process's number may be another's by now: what it names is looked up once, and never follows. */
static bool is_pid(const struct weft_attachment *attachment)
{
	return strncmp(attachment->netns, "pid:", 4) == 0;
}

static bool named_earlier(const struct weft_control *control, const char *who)
{
	struct weft_named *named;

	HASH_FIND_STR(control->named, who, named);
	return named && named->earlier;
}

/* Main gives a namespace to another one only when it is not the earlier one's any more. */
static void take_over(struct weft_control *control, struct weft_attachment *attachment, uint64_t cookie)
{
	for (struct weft_attachment *other = control->attachments; other; other = other->hh.next)
		if (other != attachment && other->cookie == cookie) {
			other->cookie = 0;
			other->current = false;
			other->error = -EBUSY;
		}
	attachment->cookie = cookie;
}

static void attach_one(struct weft_control *control, struct weft_attachment *attachment)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_ATTACH, 0), answer = { .error = 0 };
	uint64_t before = attachment->cookie;
	struct weft_err err;

	if (snprintf(request.name, sizeof(request.name), "%s", attachment->netns) >= (int)sizeof(request.name)) {
		attachment->error = -ENAMETOOLONG;
		return;
	}
	request.arg[0] = attachment->workload;
	attachment->error = weft_control_call(control, &request, NULL, 0, &answer, NULL, &err);
	if (!control->greeted)
		return;
	attachment->current = attachment->error == 0;
	attachment->port = (uint16_t)answer.arg[1];
	attachment->taken = attachment->error == -EBUSY ? answer.arg[0] : 0;
	if (attachment->current)
		take_over(control, attachment, answer.arg[0]);
	else if (attachment->error == -ENOENT || attachment->error == -EINVAL || attachment->error == -EBUSY || attachment->error == -EPERM)
		attachment->cookie = 0;
	if (!take_out(control->stale_attached, &control->stale_attached_count, attachment->cookie) && attachment->current && !before &&
	    is_pid(attachment) && named_earlier(control, attachment->who)) {
		before = attachment->cookie;
		attachment->cookie = 0;
		attachment->current = false;
		attachment->error = -ESRCH;
	}
	if (before != attachment->cookie)
		detach(control, before);
}

static void attach_or_grow(struct weft_control *control, struct weft_attachment *attachment)
{
	struct weft_role_capacity need = { { 0 } };
	struct weft_err err;

	attach_one(control, attachment);
	if (!control->greeted || attachment->error != -E2BIG)
		return;
	need.max_entries[WEFT_MAP_CAPTURE] = control->capacity.max_entries[WEFT_MAP_CAPTURE] + 1;
	if (weft_control_grow(control, &need, &err) == 0)
		attach_one(control, attachment);
}

/* A sentence about an attachment that failed. */
static void explain(const struct weft_control *control, const struct weft_attachment *attachment, struct weft_err *err)
{
	static const struct {
		int error;
		const char *text;
	} reasons[] = {
		{ -ENOENT, "does not exist" },
		{ -EINVAL, "is no network namespace" },
		{ -EACCES, "is a process's and weftd may not look at it: give it CAP_SYS_PTRACE, or the namespace a name in /run/netns" },
		{ -EADDRNOTAVAIL, "has no address yet that its record has too" },
		{ -EOPNOTSUPP, "cannot be in the secure lane on this kernel, which lacks sk_lookup: see `weft feature list`" },
		{ -EXDEV, "cannot be in the secure lane: weftd runs outside of the cgroup subtree of --cgroup, so that its connections cannot be told from "
			  "others; start it below, or give a --cgroup that holds it" },
		{ -E2BIG, "finds weft_capture full, which is as large as --map-max and memory allow" },
		{ -ENAMETOOLONG, "has too long a name" },
		{ -ESRCH, "is that of a process, it was attached before weftd was started, and the number may be another process's by now: attach it "
			  "again" },
		{ -EBUSY, "is another workload's" },
		{ -EPERM, "is the node's own, which is no workload's: name the one of a pod" },
		{ -ENOKEY, "belongs to a workload that can have no identity: it is on the host's network" },
	};
	const struct weft_attachment *holder = holder_of(control, attachment);
	const char *text = strerror(-attachment->error);

	if (holder && (attachment->error == -EBUSY || attachment->error == -EADDRNOTAVAIL)) {
		weft_err_set(err, EBUSY,
			     "%s cannot be attached: its network namespace %s is that of %s, whose address it has; name another one in the record, or "
			     "remove one of the two",
			     attachment->who, attachment->netns, holder->who);
		return;
	}
	if (attachment->error == -EADDRINUSE) {
		weft_err_set(err, EADDRINUSE,
			     "%s cannot be attached: an application in its network namespace %s holds port %u, which the agent needs there; move "
			     "the application to another port",
			     attachment->who, attachment->netns, attachment->port);
		return;
	}
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(reasons); i++)
		if (reasons[i].error == attachment->error)
			text = reasons[i].text;
	weft_err_set(err, -attachment->error, "%s cannot be attached: its network namespace %s %s", attachment->who, attachment->netns, text);
}

/* Init starts keys and the proxies; once more is no error. */
static bool ask_for_secure(struct weft_control *control)
{
	struct weft_init_message message = { .magic = WEFT_ABI_MAGIC, .type = WEFT_INIT_SECURE };

	if (!control->secure_told && control->attachments)
		control->secure_told = weft_init_send(WEFT_FD_INIT, &message, -1) == 0;
	return control->secure_told || !control->attachments;
}

/* An id is given when a workload is first seen, and kept over restarts. */
static int by_workload(const struct weft_attachment *a, const struct weft_attachment *b)
{
	return a->workload < b->workload ? -1 : a->workload > b->workload;
}

bool weft_control_attach(struct weft_control *control)
{
	struct weft_attachment *attachment, *next;
	bool complete;

	for (attachment = control->attachments; attachment; attachment = attachment->hh.next)
		attachment->wanted = false;
	if (weft_model_attached(control->model, want, control) < 0)
		return false;
	complete = ask_for_secure(control);
	HASH_SORT(control->attachments, by_workload);
	/* What goes, goes afterwards: a namespace that is handed on keeps its listeners. */
	for (attachment = control->attachments; attachment; attachment = attachment->hh.next) {
		if (attachment->wanted && !attachment->current)
			attach_or_grow(control, attachment);
		if (!control->greeted)
			return true; /* all of it is done again then */
	}
	HASH_ITER(hh, control->attachments, attachment, next) {
		uint64_t cookie = attachment->cookie;

		if (attachment->wanted)
			continue;
		if (attachment->error == -ENOKEY)
			attachment->cookie = 0;
		else
			attachment_free(control, attachment);
		detach(control, cookie);
		if (!control->greeted)
			return true;
	}
	for (attachment = control->attachments; attachment; attachment = attachment->hh.next) {
		struct weft_err err = { "" };

		if (attachment->current)
			continue;
		explain(control, attachment, &err);
		weft_problems_add(&control->unbound, WEFT_SEVERITY_NOTICE, control->options->config, 0, NULL, "weft.dev/netns", "%s", err.text);
		complete = complete && (attachment->error == -EOPNOTSUPP || attachment->error == -ENAMETOOLONG || attachment->error == -ENOKEY ||
					 attachment->error == -ESRCH || attachment->error == -EPERM);
	}
	while (control->greeted && control->stale_attached_count)
		detach(control, control->stale_attached[--control->stale_attached_count]);
	return complete;
}

void weft_control_attach_forget(struct weft_control *control, uint64_t *cookies, size_t count)
{
	for (struct weft_attachment *attachment = control->attachments; attachment; attachment = attachment->hh.next)
		if (!is_pid(attachment) || !attachment->cookie || !take_out(cookies, &count, attachment->cookie)) {
			attachment->current = false;
			attachment->cookie = 0;
		}
	free(control->stale_attached);
	control->stale_attached = cookies;
	control->stale_attached_count = count;
}

void weft_control_attach_look(struct weft_control *control)
{
	for (struct weft_attachment *attachment = control->attachments; attachment; attachment = attachment->hh.next)
		if (!is_pid(attachment) || !attachment->cookie)
			attachment->current = false;
}

/* ---- by name, at run time ---- */

static void named_free(struct weft_control *control, struct weft_named *named)
{
	HASH_DELETE(hh, control->named, named);
	free(named->who);
	free(named->netns);
	free(named);
}

static int named_put(struct weft_control *control, const char *who, const char *netns, bool earlier)
{
	struct weft_named *named;
	char *copy = strdup(netns);

	if (!copy)
		return -ENOMEM;
	HASH_FIND_STR(control->named, who, named);
	if (!named) {
		named = calloc(1, sizeof(*named));
		if (named)
			named->who = strdup(who);
		if (!named || !named->who) {
			free(named);
			free(copy);
			return -ENOMEM;
		}
		HASH_ADD_KEYPTR(hh, control->named, named->who, strlen(named->who), named);
	}
	free(named->netns);
	named->netns = copy;
	named->earlier = earlier;
	return 0;
}

/* "NAMESPACE/NAME" into two, which point into `room`. */
static int split(const char *who, char *room, size_t size, const char **ret_namespace, const char **ret_name)
{
	char *slash;

	if (snprintf(room, size, "%s", who) >= (int)size)
		return -EINVAL;
	slash = strchr(room, '/');
	if (!slash || slash == room || !slash[1] || strchr(slash + 1, '/') || strpbrk(room, " \t\r\n"))
		return -EINVAL;
	*slash = '\0';
	*ret_namespace = room;
	*ret_name = slash + 1;
	return 0;
}

static bool is_netns_name(const char *netns)
{
	return *netns && *netns != '.' && !strpbrk(netns, "/ \t\r\n") && strlen(netns) < sizeof(((struct weft_role_message *)0)->name);
}

static int tell_model(struct weft_control *control, const char *who, const char *netns)
{
	const char *namespace, *name;
	char room[600];
	int r = split(who, room, sizeof(room), &namespace, &name);

	if (r < 0)
		return r;
	return netns ? weft_model_attach(control->model, namespace, name, netns) : weft_model_detach(control->model, namespace, name);
}

void weft_control_attach_model(struct weft_control *control)
{
	for (struct weft_named *named = control->named; named; named = named->hh.next)
		if (tell_model(control, named->who, named->netns) < 0)
			weft_error("%s, which `weft workload attach` named, cannot be attached: out of memory", named->who);
}

static int save(struct weft_control *control)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	int r = 0;

	for (struct weft_named *named = control->named; r == 0 && named; named = named->hh.next)
		r = weft_buf_printf(&text, "%s %s\n", named->who, named->netns);
	return r < 0 ? r : weft_write_file_at(control->state, FILE_NAME, text.data ? text.data : "", text.size, 0640);
}

void weft_control_attach_start(struct weft_control *control)
{
	weft_close_on_exit int fd = openat(control->state, FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	weft_free_on_exit char *text = NULL;
	struct stat st;
	char *at, *line;
	ssize_t got;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_FILE)
		return;
	text = malloc((size_t)st.st_size + 1);
	got = text ? read(fd, text, (size_t)st.st_size) : -1;
	if (got < 0)
		return;
	text[got] = '\0';
	at = text;
	while ((line = strsep(&at, "\n"))) {
		const char *namespace, *name;
		char room[600], *netns = strchr(line, ' ');

		if (netns)
			*netns++ = '\0';
		if (!*line)
			continue;
		if (!netns || !is_netns_name(netns) || split(line, room, sizeof(room), &namespace, &name) < 0 ||
		    named_put(control, line, netns, true) < 0)
			weft_warning("a line of the state folder's `" FILE_NAME "` is not understood, ignoring");
	}
}

void weft_control_attach_stop(struct weft_control *control)
{
	struct weft_attachment *attachment, *next;
	struct weft_named *named, *after;

	HASH_ITER(hh, control->attachments, attachment, next)
		attachment_free(control, attachment);
	HASH_ITER(hh, control->named, named, after)
		named_free(control, named);
	free(control->stale_attached);
}

struct known {
	const char *namespace, *name;
	bool found;
};

static void look(void *context, const struct weft_source_entry *entry)
{
	struct known *known = context;

	known->found = known->found || ((entry->kind == WEFT_KIND_POD || entry->kind == WEFT_KIND_WORKLOAD_ENTRY) &&
					strcmp(entry->namespace, known->namespace) == 0 && strcmp(entry->name, known->name) == 0);
}

/* What an attachment of this workload came to. */
static int result(struct weft_control *control, const char *who, const char *netns, struct weft_err *err)
{
	const struct weft_attachment *attachment, *holder;
	char *key;

	if (asprintf(&key, "%s %s", who, netns) < 0)
		return weft_err_set(err, ENOMEM, "out of memory");
	attachment = attachment_of(control, key);
	free(key);
	if (!attachment)
		return weft_err_set(err, ENOENT, "%s is on the host's network, or of another node: it cannot be attached", who);
	holder = attachment->current ? NULL : holder_of(control, attachment);
	if (holder)
		return weft_err_set(err, EEXIST, "the network namespace %s is that of %s: give another, or detach that workload first", netns, holder->who);
	if (!attachment->current)
		explain(control, attachment, err);
	return attachment->current ? 0 : attachment->error;
}

int weft_control_attach_named(struct weft_control *control, const char *who, const char *netns, struct weft_err *err)
{
	struct known known = { .found = false };
	struct weft_named *before;
	char room[600];
	int r = split(who, room, sizeof(room), &known.namespace, &known.name);

	if (r < 0)
		return weft_err_set(err, EINVAL, "%.300s is no workload: give NAMESPACE/NAME", who);
	if (!is_netns_name(netns))
		return weft_err_set(err, EINVAL, "%.200s is no network namespace: give a name of /run/netns, or pid:NUMBER", netns);
	weft_source_entries(control->source, look, &known);
	if (!known.found)
		return weft_err_set(err, ENOENT, "there is no Pod and no WorkloadEntry %s: see `weft config list`", who);
	HASH_FIND_STR(control->named, who, before);
	if (before)
		before->earlier = false;
	r = tell_model(control, who, netns);
	if (r < 0)
		return weft_err_set(err, r, "cannot attach %s: %m", who);
	weft_control_commit(control);
	r = result(control, who, netns, err);
	if (r == 0) {
		r = named_put(control, who, netns, false);
		r = r < 0 ? r : save(control);
		if (r < 0)
			weft_err_set(err, r, "%s is attached, but that cannot be written into the state folder: %m", who);
		return r;
	}
	tell_model(control, who, before ? before->netns : NULL);
	weft_control_commit(control);
	return r;
}

int weft_control_detach_named(struct weft_control *control, const char *who, struct weft_err *err)
{
	struct weft_named *named;
	int r;

	HASH_FIND_STR(control->named, who, named);
	if (!named)
		return weft_err_set(err, ENOENT, "%.300s was not attached by `weft workload attach`: its record says whether it is", who);
	tell_model(control, who, NULL);
	named_free(control, named);
	weft_control_commit(control);
	r = save(control);
	return r < 0 ? weft_err_set(err, r, "%.300s is detached, but that cannot be written into the state folder: %m", who) : 0;
}

struct json_object *weft_control_attach_json(const struct weft_control *control)
{
	struct json_object *list = json_object_new_array();

	for (const struct weft_attachment *attachment = control->attachments; attachment; attachment = attachment->hh.next) {
		struct json_object *object = json_object_new_object();
		struct weft_err err = { "" };

		if (!attachment->current)
			explain(control, attachment, &err);
		json_object_object_add(object, "workload", json_object_new_uint64(attachment->workload));
		json_object_object_add(object, "who", json_object_new_string(attachment->who));
		json_object_object_add(object, "netns", json_object_new_string(attachment->netns));
		json_object_object_add(object, "attached", json_object_new_boolean(attachment->current));
		json_object_object_add(object, "cookie", json_object_new_uint64(attachment->cookie));
		json_object_object_add(object, "why", json_object_new_string(err.text));
		json_object_array_add(list, object);
	}
	return list;
}
