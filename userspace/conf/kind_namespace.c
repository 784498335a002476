/* SPDX-License-Identifier: Apache-2.0 */
/* v1 Namespace: its labels are what a mesh reads. */
#include "conf/kind.h"

struct document {
	struct weft_meta meta;
};

static const struct document initial = { .meta = WEFT_META_INITIAL };
static const struct weft_field fields[] = { WEFT_KIND_TOP(struct document) };
static const struct weft_table table = {
	WEFT_FIELDS(fields),
	.silent = WEFT_WORDS("apiVersion", "kind", "spec", "status"),
	.initial = &initial,
	.size = sizeof(struct document),
};

static bool finish(struct weft_decode *decode, void *document, struct weft_resource *resource)
{
	(void)decode;
	(void)document;
	(void)resource;
	return true;
}

static void print_namespace(struct weft_print *print, const struct weft_resource *resource)
{
	(void)print;
	(void)resource;
}

const struct weft_kind_ops weft_kind_namespace = {
	.kind = WEFT_KIND_NAMESPACE,
	.size = offsetof(struct weft_resource, service),
	.name = "Namespace",
	.versions = WEFT_WORDS("v1"),
	.check_name = weft_check_label_name,
	.table = &table,
	.finish = finish,
	.print = print_namespace,
};
