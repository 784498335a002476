/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads and their network namespaces: a name of /run/netns in the
 * configuration, a cookie in weft_pod. A namespace may come after its
 * workload, go before it, and come back under the same name as another one;
 * /run/netns is watched, and what could not be bound is tried again, since
 * mounting a namespace on its name makes no event.
 */
#include "agent/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>


#define NETNS_FOLDER "/run/netns"
#define FIRST_RETRY_MS 200
#define MAX_RETRY_MS 5000

struct weft_binding {
	UT_hash_handle hh; /* by netns */
	char *netns;
	uint32_t workload;
	uint32_t rival; /* another one that names it; 0: none */
	uint32_t flags;
	uint64_t cookie; /* 0: not bound */
	int error; /* of the last try */
	bool current; /* main has it like this */
	bool wanted; /* while comparing */
};

static void binding_free(struct weft_binding *binding)
{
	free(binding->netns);
	free(binding);
}

static int want(void *context, uint32_t workload, const char *netns, uint32_t flags)
{
	struct weft_control *control = context;
	struct weft_binding *binding;

	HASH_FIND_STR(control->bindings, netns, binding);
	/* Of two that name one namespace, whoever was known first: an id is kept over restarts. */
	if (binding && binding->wanted && binding->workload < workload) {
		binding->rival = workload;
		return 0;
	}
	if (binding && binding->wanted && binding->workload != workload)
		binding->rival = binding->workload;
	if (!binding) {
		binding = calloc(1, sizeof(*binding));
		if (!binding)
			return -ENOMEM;
		binding->netns = strdup(netns);
		if (!binding->netns) {
			free(binding);
			return -ENOMEM;
		}
		HASH_ADD_KEYPTR(hh, control->bindings, binding->netns, strlen(binding->netns), binding);
	}
	if (binding->workload != workload || binding->flags != flags)
		binding->current = false;
	binding->workload = workload;
	binding->flags = flags;
	binding->wanted = true;
	return 0;
}

static int unbind(struct weft_control *control, uint64_t cookie)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_UNBIND, 0);
	struct weft_err err;

	request.arg[0] = cookie;
	return weft_control_call(control, &request, NULL, 0, NULL, NULL, &err);
}

static void claim_cookie(struct weft_control *control, uint64_t cookie)
{
	for (size_t i = 0; i < control->stale_count; i++)
		if (control->stale[i] == cookie) {
			control->stale[i] = control->stale[--control->stale_count];
			return;
		}
}

static bool cookie_is_used(const struct weft_control *control, uint64_t cookie)
{
	for (struct weft_binding *binding = control->bindings; binding; binding = binding->hh.next)
		if (binding->cookie == cookie)
			return true;
	return false;
}

static void bind_one(struct weft_control *control, struct weft_binding *binding)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_BIND, 0), answer;
	uint64_t before = binding->cookie;
	struct weft_err err;

	if (snprintf(request.name, sizeof(request.name), "%s", binding->netns) >= (int)sizeof(request.name)) {
		binding->error = -ENAMETOOLONG;
		return;
	}
	request.arg[0] = binding->workload;
	request.arg[1] = binding->flags;
	binding->error = weft_control_call(control, &request, NULL, 0, &answer, NULL, &err);
	binding->current = binding->error == 0;
	binding->cookie = binding->current ? answer.arg[0] : 0;
	if (binding->current)
		claim_cookie(control, binding->cookie);
	if (control->greeted && before && before != binding->cookie && !cookie_is_used(control, before))
		unbind(control, before);
}

/* A map that is full is made larger once. */
static void bind_or_grow(struct weft_control *control, struct weft_binding *binding)
{
	struct weft_role_capacity need = { { 0 } };
	struct weft_err err;

	bind_one(control, binding);
	if (!control->greeted || (binding->error != -E2BIG && binding->error != -ENOSPC))
		return;
	need.max_entries[WEFT_MAP_POD] = control->capacity.max_entries[WEFT_MAP_POD] + 1;
	if (weft_control_grow(control, &need, &err) == 0)
		bind_one(control, binding);
}

static void note_unbound(struct weft_control *control, const struct weft_binding *binding)
{
	const char *why = binding->error == -ENOENT	   ? "does not exist"
			  : binding->error == -EINVAL	   ? "is no network namespace"
			  : binding->error == -EOPNOTSUPP  ? "has no cookie on this kernel"
			  : binding->error == -ENAMETOOLONG ? "has too long a name"
			  : binding->error == -EPERM	   ? "is the node's own, which is no workload's"
			  : binding->error == -EBUSY	   ? "is attached as another workload's, whose address it has"
			  : binding->error == -E2BIG	   ? "finds weft_pod full, which is as large as --map-max and memory allow"
							   : strerror(-binding->error);

	weft_problems_add(&control->unbound, WEFT_SEVERITY_NOTICE, control->options->config, 0, NULL, "weft.dev/netns",
			  NETNS_FOLDER "/%s %s: its workload is known by address only until it does", binding->netns, why);
}

static void note_rival(struct weft_control *control, const struct weft_binding *binding)
{
	const struct weft_workload_name *first = weft_names_workload(weft_model_names(control->model), binding->workload);
	const struct weft_workload_name *rival = weft_names_workload(weft_model_names(control->model), binding->rival);

	if (first && rival)
		weft_problems_add(&control->unbound, WEFT_SEVERITY_NOTICE, control->options->config, 0, NULL, "weft.dev/netns",
				  NETNS_FOLDER "/%s is named by %s %s/%s and by %s %s/%s: what is counted there, and its opt-out, is the former's; name "
					       "another one in one of the two",
				  binding->netns, first->kind, first->namespace, first->name, rival->kind, rival->namespace, rival->name);
}

void weft_control_bind(struct weft_control *control)
{
	struct weft_binding *binding, *next;
	bool incomplete = false;

	if (!control->greeted)
		return;
	for (binding = control->bindings; binding; binding = binding->hh.next) {
		binding->wanted = false;
		binding->rival = 0;
	}
	if (weft_model_bindings(control->model, want, control) < 0)
		return;
	weft_problems_done(&control->unbound);
	HASH_ITER(hh, control->bindings, binding, next) {
		if (!binding->wanted) {
			uint64_t cookie = binding->cookie;

			HASH_DELETE(hh, control->bindings, binding);
			binding_free(binding);
			if (cookie && !cookie_is_used(control, cookie))
				unbind(control, cookie);
		} else if (!binding->current) {
			bind_or_grow(control, binding);
		}
		if (!control->greeted)
			return;
	}
	for (binding = control->bindings; binding; binding = binding->hh.next) {
		if (binding->rival)
			note_rival(control, binding);
		if (!binding->current) {
			note_unbound(control, binding);
			incomplete = incomplete || (binding->error != -EOPNOTSUPP && binding->error != -ENAMETOOLONG && binding->error != -EPERM);
		}
	}
	while (control->greeted && control->stale_count)
		unbind(control, control->stale[--control->stale_count]);
	incomplete = (control->greeted && !weft_control_attach(control)) || incomplete;
	if (!incomplete) {
		control->bind_retry_ms = 0;
		sd_event_source_set_enabled(control->bind_later, SD_EVENT_OFF);
		return;
	}
	control->bind_retry_ms = control->bind_retry_ms == 0 ? FIRST_RETRY_MS : control->bind_retry_ms * 2;
	if (control->bind_retry_ms > MAX_RETRY_MS)
		control->bind_retry_ms = MAX_RETRY_MS;
	sd_event_source_set_time_relative(control->bind_later, (uint64_t)control->bind_retry_ms * 1000);
	sd_event_source_set_enabled(control->bind_later, SD_EVENT_ONESHOT);
}

void weft_control_bind_forget(struct weft_control *control, uint64_t *cookies, size_t count)
{
	for (struct weft_binding *binding = control->bindings; binding; binding = binding->hh.next) {
		binding->current = false;
		binding->cookie = 0;
	}
	free(control->stale);
	control->stale = cookies;
	control->stale_count = count;
}

static int on_bind_later(sd_event_source *source, uint64_t usec, void *context)
{
	(void)source;
	(void)usec;
	weft_control_bind(context);
	weft_control_say_problems(context);
	return 0;
}

/* Any name may mean another namespace now. */
static void on_netns(void *context, int dir)
{
	struct weft_control *control = context;

	(void)dir;
	/* A process's number never comes to mean another namespace for us: it would be a stranger's. */
	for (struct weft_binding *binding = control->bindings; binding; binding = binding->hh.next)
		if (strncmp(binding->netns, "pid:", 4) != 0)
			binding->current = false;
	weft_control_attach_look(control);
	control->bind_retry_ms = 0;
	weft_control_bind(control);
	weft_control_say_problems(control);
}

int weft_control_bind_start(struct weft_control *control)
{
	int r = sd_event_add_time(control->loop, &control->bind_later, CLOCK_MONOTONIC, 0, 1000, on_bind_later, control);

	if (r >= 0)
		r = sd_event_source_set_enabled(control->bind_later, SD_EVENT_OFF);
	if (r >= 0)
		r = weft_watch_new(control->loop, NETNS_FOLDER, -1, on_netns, control, &control->netns);
	return r;
}

void weft_control_bind_stop(struct weft_control *control)
{
	struct weft_binding *binding, *next;

	HASH_ITER(hh, control->bindings, binding, next) {
		HASH_DELETE(hh, control->bindings, binding);
		binding_free(binding);
	}
	free(control->stale);
	sd_event_source_disable_unref(control->bind_later);
	weft_watch_free(control->netns);
}
