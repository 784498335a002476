/* SPDX-License-Identifier: Apache-2.0 */
/* metadata, which all kinds share. */
#include "conf/kind.h"

#include <string.h>

#define NETNS_FOLDER "/run/netns/"
#define OWN_PREFIX "weft.dev/"
#define NETNS_MAX 255 /* NAME_MAX: it is a file's name */
#define PID_PREFIX "pid:"
#define PID_MAX 4194304 /* PID_MAX_LIMIT of linux/threads.h */

static void decode_being_deleted(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
				 void *target)
{
	static const struct weft_type time = { .id = WEFT_TYPE_TIME, .size = sizeof(int64_t) };
	int64_t ignored;

	weft_decode_value(decode, &time, node, at, &ignored);
	*(bool *)target = true;
}

/*
 * Only what somebody reads is kept: kubectl alone leaves a copy of the whole
 * document in an annotation, and a change there changes nothing for a mesh.
 */
static bool is_read(const char *key)
{
	static const char *const prefixes[] = { OWN_PREFIX, "istio.io/", "ambient.istio.io/", "service.kubernetes.io/" };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(prefixes); i++)
		if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static void decode_annotations(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at,
			       void *target)
{
	static const struct weft_type pairs_type = { .id = WEFT_TYPE_PAIRS };
	struct weft_pairs all = { 0 };
	struct weft_pair *kept;
	size_t count = 0;

	weft_decode_value(decode, &pairs_type, node, at, &all);
	kept = weft_decode_alloc(decode, all.count * sizeof(*kept));
	if (!kept)
		return;
	for (size_t i = 0; i < all.count; i++) {
		const char *key = all.item[i].key, *near = NULL;
		bool known = false;

		if (!is_read(key))
			continue;
		kept[count++] = all.item[i];
		if (strncmp(key, OWN_PREFIX, strlen(OWN_PREFIX)) != 0)
			continue;
		for (const char *const *word = decode->annotations; word && *word; word++) {
			known |= strcmp(key, *word) == 0;
			near = weft_nearest(key, *word, near);
		}
		if (!known)
			weft_decode_problem(decode, WEFT_SEVERITY_ERROR, weft_yaml_get(node, key),
					    &(struct weft_at){ .up = at, .key = key },
					    near ? "unknown annotation, did you mean `%s`?" :
						   "this kind has no such annotation%s; take it out",
					    near ? near : "");
	}
	*(struct weft_pairs *)target = (struct weft_pairs){ kept, count };
}

static const struct weft_type annotations = { .id = WEFT_TYPE_CUSTOM, .decode = decode_annotations };
static const struct weft_type time_type = { .id = WEFT_TYPE_TIME, .size = sizeof(int64_t) };
static const struct weft_type being_deleted = { .id = WEFT_TYPE_CUSTOM, .decode = decode_being_deleted };

static const struct weft_field fields[] = {
	WEFT_FIELD_REQUIRED("name", weft_type_string, struct weft_meta, name),
	WEFT_FIELD("namespace", weft_type_label_name, struct weft_meta, namespace),
	WEFT_FIELD("labels", weft_type_labels, struct weft_meta, labels),
	WEFT_FIELD("annotations", annotations, struct weft_meta, annotations),
	WEFT_FIELD("creationTimestamp", time_type, struct weft_meta, created),
	WEFT_FIELD("deletionTimestamp", being_deleted, struct weft_meta, deleting),
};

const struct weft_meta weft_meta_initial = WEFT_META_INITIAL;

static const struct weft_table table = {
	WEFT_FIELDS(fields),
	.silent = WEFT_WORDS("generateName", "uid", "resourceVersion", "generation", "selfLink", "managedFields",
			     "ownerReferences", "finalizers", "deletionGracePeriodSeconds", "clusterName"),
	.initial = &weft_meta_initial,
	.size = sizeof(struct weft_meta),
};

const struct weft_type weft_type_meta = { .id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_meta), .table = &table };

static bool is_pid(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits && digits < 8 && !text[digits] && *text != '0' && strtol(text, NULL, 10) <= PID_MAX;
}

const char *weft_kind_netns(struct weft_decode *decode, const struct weft_meta *meta)
{
	const char *name = weft_pairs_get(&meta->annotations, WEFT_ANNOTATION_NETNS), *written = name;

	if (!name)
		return "";
	if (strncmp(name, PID_PREFIX, strlen(PID_PREFIX)) == 0) {
		if (is_pid(name + strlen(PID_PREFIX)))
			return name;
		weft_decode_error(decode, "metadata.annotations[" WEFT_ANNOTATION_NETNS "]",
				  "`%.80s` is not the id of a process, expected " PID_PREFIX "NUMBER", written);
		return "";
	}
	if (strncmp(name, NETNS_FOLDER, strlen(NETNS_FOLDER)) == 0)
		name += strlen(NETNS_FOLDER);
	if (*name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strlen(name) <= NETNS_MAX)
		return name;
	weft_decode_error(decode, "metadata.annotations[" WEFT_ANNOTATION_NETNS "]",
			  "`%.80s` is not the name of a network namespace, expected NAME, " NETNS_FOLDER "NAME or " PID_PREFIX "NUMBER",
			  written);
	return "";
}

bool weft_kind_opted_out(const struct weft_meta *meta)
{
	const char *mode = weft_pairs_get(&meta->labels, WEFT_LABEL_DATAPLANE_MODE);

	return mode && strcmp(mode, "none") == 0;
}

bool weft_kind_tunnel(const struct weft_meta *meta, const struct weft_pairs *labels)
{
	const char *redirection = weft_pairs_get(&meta->annotations, WEFT_ANNOTATION_REDIRECTION);
	const char *tunnel = weft_pairs_get(&meta->labels, WEFT_LABEL_TUNNEL);

	if (!tunnel && labels)
		tunnel = weft_pairs_get(labels, WEFT_LABEL_TUNNEL);
	return (redirection && strcmp(redirection, "enabled") == 0) || (tunnel && strcmp(tunnel, "http") == 0);
}
