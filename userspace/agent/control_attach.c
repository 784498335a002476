/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads in the secure lane: what the configuration, or `weft workload attach`, wants attached, and what main could do. A
 * namespace that is not there yet, or whose ports an application holds, is tried again; it is a problem as long.
 */
#include "agent/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/log.h"

struct weft_attachment {
	UT_hash_handle hh; /* by netns */
	char *netns;
	char *identity;
	char *namespace;
	char *name;
	uint32_t workload;
	uint64_t cookie; /* 0: not attached */
	int error; /* of the last try */
	uint16_t port; /* that an application holds */
	bool current; /* main has it like this */
	bool wanted; /* while comparing */
};

static void attachment_free(struct weft_attachment *attachment)
{
	free(attachment->netns);
	free(attachment->identity);
	free(attachment->namespace);
	free(attachment->name);
	free(attachment);
}

/* Of one that is new: empty but for its key. */
static struct weft_attachment *attachment_of(struct weft_control *control, const char *netns)
{
	struct weft_attachment *attachment;

	HASH_FIND_STR(control->attachments, netns, attachment);
	if (attachment)
		return attachment;
	attachment = calloc(1, sizeof(*attachment));
	if (!attachment)
		return NULL;
	attachment->netns = strdup(netns);
	if (!attachment->netns) {
		free(attachment);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, control->attachments, attachment->netns, strlen(attachment->netns), attachment);
	return attachment;
}

static int replace(char **text, const char *by)
{
	char *copy = strdup(by);

	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

static int want(void *context, const struct weft_attached *attached)
{
	struct weft_control *control = context;
	struct weft_attachment *attachment = attachment_of(control, attached->netns);

	if (!attachment)
		return -ENOMEM;
	if (attachment->wanted)
		return 0; /* two workloads name one namespace: the first has it */
	if (replace(&attachment->identity, attached->identity) < 0 || replace(&attachment->namespace, attached->namespace) < 0 ||
	    replace(&attachment->name, attached->name) < 0)
		return -ENOMEM;
	if (attachment->workload != attached->workload)
		attachment->current = false;
	attachment->workload = attached->workload;
	attachment->wanted = true;
	return 0;
}

static int detach(struct weft_control *control, uint64_t cookie)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_DETACH, 0);
	struct weft_err err = { "" };

	request.arg[0] = cookie;
	return weft_control_call(control, &request, NULL, 0, NULL, NULL, &err);
}

static bool cookie_is_used(const struct weft_control *control, uint64_t cookie)
{
	for (const struct weft_attachment *attachment = control->attachments; attachment; attachment = attachment->hh.next)
		if (attachment->cookie == cookie)
			return true;
	return false;
}

static void claim_cookie(struct weft_control *control, uint64_t cookie)
{
	for (size_t i = 0; i < control->captured_count; i++)
		if (control->captured[i] == cookie) {
			control->captured[i] = control->captured[--control->captured_count];
			return;
		}
}

static void attach(struct weft_control *control, struct weft_attachment *attachment)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_ATTACH, 0), answer = { 0 };
	uint64_t before = attachment->cookie;
	struct weft_err err = { "" };

	if (!attachment->identity[0]) {
		attachment->error = -ENOKEY;
		return;
	}
	if (snprintf(request.name, sizeof(request.name), "%s", attachment->netns) >= (int)sizeof(request.name)) {
		attachment->error = -ENAMETOOLONG;
		return;
	}
	request.arg[0] = attachment->workload;
	attachment->error = weft_control_call(control, &request, NULL, 0, &answer, NULL, &err);
	attachment->current = attachment->error == 0;
	attachment->port = attachment->error == -EADDRINUSE ? (uint16_t)answer.arg[1] : 0;
	if (attachment->current) {
		attachment->cookie = answer.arg[0];
		claim_cookie(control, attachment->cookie);
		if (before != attachment->cookie)
			weft_info("%s/%s is attached as %s", attachment->namespace, attachment->name, attachment->identity);
	} else if (attachment->error == -ENOENT || attachment->error == -EINVAL) {
		attachment->cookie = 0; /* the namespace of that name is another one, or gone */
	}
	if (control->greeted && before && before != attachment->cookie && !cookie_is_used(control, before))
		detach(control, before);
}

/* A map that is full is made larger once. */
static void attach_or_grow(struct weft_control *control, struct weft_attachment *attachment)
{
	struct weft_role_capacity need = { { 0 } };
	struct weft_err err;

	attach(control, attachment);
	if (!control->greeted || attachment->error != -E2BIG)
		return;
	need.max_entries[WEFT_MAP_CAPTURE] = control->capacity.max_entries[WEFT_MAP_CAPTURE] + 1;
	if (weft_control_grow(control, &need, &err) == 0)
		attach(control, attachment);
}

static const char *why(const struct weft_attachment *attachment, char *text, size_t size)
{
	switch (attachment->error) {
	case -EADDRINUSE:
		snprintf(text, size, "an application in it holds port %u, which the agent needs: move the application to another port", attachment->port);
		return text;
	case -EXDEV:
		return "weftd runs outside the cgroup subtree of its --cgroup, so that programs cannot tell its connections from others: start it "
		       "below, or give a --cgroup that holds it";
	case -ENOENT:
		return "the network namespace does not exist yet";
	case -EINVAL:
		return "that is no network namespace";
	case -ENOKEY:
		return "it can have no identity: it has no service account, or is of the host's network";
	case -EADDRNOTAVAIL:
		return "its network namespace has no address yet";
	case -EOPNOTSUPP:
		return "this kernel lacks what the secure lane needs, see `weft feature`";
	case -ENAMETOOLONG:
		return "the name of its network namespace is too long";
	case -E2BIG:
		return "weft_capture is full, and as large as --map-max and memory allow";
	default:
		return strerror(-attachment->error);
	}
}

static void note(struct weft_control *control, const struct weft_attachment *attachment)
{
	char text[160];

	weft_problems_add(&control->unattached, attachment->error == -ENOENT ? WEFT_SEVERITY_NOTICE : WEFT_SEVERITY_ERROR, control->options->config, 0,
			  NULL, "weft.dev/netns", "%s/%s is not attached in %s, its connections are not encrypted and not authenticated: %s",
			  attachment->namespace, attachment->name, attachment->netns, why(attachment, text, sizeof(text)));
}

bool weft_control_attach(struct weft_control *control)
{
	struct weft_attachment *attachment, *next;
	bool incomplete = false;

	for (attachment = control->attachments; attachment; attachment = attachment->hh.next)
		attachment->wanted = false;
	if (weft_model_attached(control->model, want, control) < 0)
		return true;
	weft_problems_done(&control->unattached);
	HASH_ITER(hh, control->attachments, attachment, next) {
		if (!attachment->wanted) {
			uint64_t cookie = attachment->cookie;

			if (cookie)
				weft_info("%s/%s is attached no longer", attachment->namespace, attachment->name);
			HASH_DELETE(hh, control->attachments, attachment);
			attachment_free(attachment);
			if (cookie && !cookie_is_used(control, cookie))
				detach(control, cookie);
		} else if (!attachment->current) {
			attach_or_grow(control, attachment);
		}
		if (!control->greeted)
			return true;
	}
	for (attachment = control->attachments; attachment; attachment = attachment->hh.next)
		if (!attachment->current) {
			note(control, attachment);
			incomplete = incomplete || (attachment->error != -ENOKEY && attachment->error != -ENAMETOOLONG);
		}
	while (control->greeted && control->captured_count)
		detach(control, control->captured[--control->captured_count]);
	return incomplete;
}

void weft_control_attach_again(struct weft_control *control)
{
	for (struct weft_attachment *attachment = control->attachments; attachment; attachment = attachment->hh.next)
		attachment->current = false;
}

void weft_control_attach_forget(struct weft_control *control, uint64_t *cookies, size_t count)
{
	for (struct weft_attachment *attachment = control->attachments; attachment; attachment = attachment->hh.next) {
		attachment->current = false;
		attachment->cookie = 0;
	}
	free(control->captured);
	control->captured = cookies;
	control->captured_count = count;
}

void weft_control_attach_stop(struct weft_control *control)
{
	struct weft_attachment *attachment, *next;

	HASH_ITER(hh, control->attachments, attachment, next) {
		HASH_DELETE(hh, control->attachments, attachment);
		attachment_free(attachment);
	}
	free(control->captured);
	weft_problems_done(&control->unattached);
}

struct json_object *weft_control_attach_json(const struct weft_control *control)
{
	struct json_object *list = json_object_new_array();
	char text[160];

	for (const struct weft_attachment *attachment = control->attachments; attachment; attachment = attachment->hh.next) {
		struct json_object *object = json_object_new_object();

		json_object_object_add(object, "workload", json_object_new_uint64(attachment->workload));
		json_object_object_add(object, "namespace", json_object_new_string(attachment->namespace));
		json_object_object_add(object, "name", json_object_new_string(attachment->name));
		json_object_object_add(object, "netns", json_object_new_string(attachment->netns));
		json_object_object_add(object, "identity", json_object_new_string(attachment->identity));
		json_object_object_add(object, "attached", json_object_new_boolean(attachment->current));
		json_object_object_add(object, "cookie", json_object_new_uint64(attachment->cookie));
		json_object_object_add(object, "why", json_object_new_string(attachment->current ? "" : why(attachment, text, sizeof(text))));
		json_object_array_add(list, object);
	}
	return list;
}
