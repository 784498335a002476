/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/conf.h"

#include <errno.h>
#include <string.h>

#include "conf/arena.h"
#include "conf/kind.h"
#include "conf/node.h"
#include "conf/schema.h"

struct parse {
	const char *file;
	struct weft_conf_file *conf;
	struct weft_problems *problems;
	struct weft_buf canonical; /* of the last resource: kept for its memory */
	struct weft_arena *scratch; /* of the resource that is read, until finish() */
	size_t usual[WEFT_KIND_MAX_]; /* memory of the smallest resource of that kind so far: where the next one begins */
};

/* What a document says about itself, "" where it does not. */
struct header {
	const char *version;
	const char *kind;
	const char *name;
	const char *namespace;
};

static const char *text_of(const struct weft_yaml *node, const char *key, const char *otherwise)
{
	const struct weft_yaml *child = weft_yaml_get(node, key);

	return child && child->type == WEFT_YAML_SCALAR && !weft_yaml_is_null(child) ? child->text : otherwise;
}

static struct header header_of(const struct weft_yaml *root, const char *version, const char *kind)
{
	const struct weft_yaml *meta = weft_yaml_get(root, "metadata");

	return (struct header){
		.version = text_of(root, "apiVersion", version),
		.kind = text_of(root, "kind", kind),
		.name = text_of(meta, "name", ""),
		.namespace = text_of(meta, "namespace", ""),
	};
}

static const char *namespace_of(const struct weft_kind_ops *ops, const struct header *header)
{
	if (!ops->namespaced)
		return "";
	return *header->namespace ? header->namespace : "default";
}

/* "Service shop/web", "Node worker"; NULL: out of memory. Freed by the caller. */
static char *describe(const struct header *header)
{
	const struct weft_kind_ops *ops;
	const char *near, *namespace = "";
	char *text;

	(void)weft_kind_classify(header->version, header->kind, &ops, &near);
	if (*header->name)
		namespace = ops ? namespace_of(ops, header) : header->namespace;
	if (asprintf(&text, "%.63s%s%.63s%s%.253s", header->kind, *header->kind && *header->name ? " " : "", namespace,
		     *namespace ? "/" : "", header->name) < 0)
		return NULL;
	return text;
}

static int refuse(struct parse *parse, const struct weft_kind_ops *ops, const struct header *header)
{
	struct weft_conf_file *conf = parse->conf;
	struct weft_identity identity = { 0 };

	if (!ops || !*header->name) {
		conf->torn = true;
		return 0;
	}
	if (weft_grow(&conf->refused, &conf->refused_room, conf->refused_count + 1, sizeof(identity)) < 0)
		return -ENOMEM;
	identity.kind = ops->kind;
	identity.name = strdup(header->name);
	identity.namespace = strdup(namespace_of(ops, header));
	if (!identity.name || !identity.namespace) {
		free(identity.name);
		free(identity.namespace);
		return -ENOMEM;
	}
	conf->refused[conf->refused_count++] = identity;
	return 0;
}

/* FNV-1a, 64 bits. */
static uint64_t hash(const char *data, size_t size)
{
	uint64_t value = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < size; i++)
		value = (value ^ (unsigned char)data[i]) * 0x100000001b3ull;
	return value;
}

/* *ret_resource: NULL if the document is refused or of no use. */
static int decode_resource(struct parse *parse, const struct weft_kind_ops *ops, struct weft_decode *decode,
			   const struct weft_yaml *root, const struct weft_at *at, struct weft_resource **ret_resource)
{
	weft_cleanup(weft_arena_freep) struct weft_arena *arena = weft_arena_new(parse->usual[ops->kind]);
	weft_free_on_exit void *document = calloc(1, ops->table->size);
	struct weft_resource *resource = arena ? weft_arena_alloc(arena, ops->size) : NULL;
	const char *expected;
	size_t size;
	bool keep;
	int r;

	if (!resource || !document || !parse->scratch)
		return -ENOMEM;
	decode->arena = arena;
	decode->scratch = parse->scratch;
	decode->annotations = ops->annotations;
	decode->first_problem = parse->problems->count;
	decode->root = root;
	decode->root_at = at;
	weft_decode_table(decode, ops->table, root, at, document);
	if (decode->status < 0)
		return decode->status;
	resource->kind = ops->kind;
	/* Every kind's struct begins with it (kind.h). */
	memcpy(&resource->meta, document, sizeof(resource->meta));
	expected = *resource->meta.name ? ops->check_name(resource->meta.name) : NULL;
	if (expected)
		weft_decode_error(decode, "metadata.name", "`%.80s` is not accepted, expected %s", resource->meta.name, expected);
	if (!ops->namespaced && *resource->meta.namespace)
		weft_decode_error(decode, "metadata.namespace", "a %s is in no namespace; take this out", ops->name);
	if (ops->namespaced && !*resource->meta.namespace)
		resource->meta.namespace = "default";
	keep = ops->finish(decode, document, resource);
	weft_arena_clear(parse->scratch);
	if (!keep || decode->errors || decode->status < 0)
		return decode->status;
	resource->file = weft_decode_copy(decode, parse->file);
	resource->line = root->line;
	weft_buf_clear(&parse->canonical);
	r = decode->status < 0 ? decode->status : weft_conf_print(resource, &parse->canonical);
	if (r < 0)
		return r;
	resource->fingerprint = hash(parse->canonical.data, parse->canonical.size);
	/* The least so far: one resource that is large must not make room for all that follow. */
	size = weft_arena_size(arena);
	if (!parse->usual[ops->kind] || size < parse->usual[ops->kind])
		parse->usual[ops->kind] = size;
	resource->arena = weft_take_ptr(arena);
	*ret_resource = resource;
	return 0;
}

static int take_known(struct parse *parse, const struct weft_kind_ops *ops, const struct header *header,
		      const struct weft_yaml *root, const struct weft_at *at)
{
	weft_free_on_exit char *description = describe(header);
	struct weft_decode decode = { .problems = parse->problems, .file = parse->file, .resource = description };
	struct weft_conf_file *conf = parse->conf;
	struct weft_resource *resource = NULL;
	int r;

	if (!description || weft_grow(&conf->resource, &conf->resource_room, conf->resource_count + 1,
				      sizeof(*conf->resource)) < 0)
		return -ENOMEM;
	r = decode_resource(parse, ops, &decode, root, at, &resource);
	if (r < 0)
		return r;
	if (resource)
		conf->resource[conf->resource_count++] = resource;
	return decode.errors ? refuse(parse, ops, header) : 0;
}

static int take_document(struct parse *parse, const struct weft_yaml *root, const struct weft_at *at, const char *version,
			 const char *kind);

/* List, and ServiceList and its like, whose items may leave out what the list's own kind says. */
static int take_list(struct parse *parse, const struct header *header, const struct weft_yaml *items,
		     const struct weft_at *at)
{
	weft_free_on_exit char *kind = strndup(header->kind, strlen(header->kind) - strlen("List"));
	struct weft_at items_at = { .up = at, .key = "items" }, item_at = { .up = &items_at };
	int r = 0;

	if (!kind)
		return -ENOMEM;
	for (const struct weft_yaml *item = items->first; r == 0 && item; item = item->next, item_at.index++)
		r = take_document(parse, item, &item_at, *kind ? header->version : "", kind);
	return r;
}

static bool is_list(const struct header *header, const struct weft_yaml *items)
{
	size_t size = strlen(header->kind);

	return items && items->type == WEFT_YAML_SEQUENCE && size >= 4 && strcmp(header->kind + size - 4, "List") == 0;
}

/* A document whose own words cannot be used: the reason, and whoever it may have been. */
static int take_unknown(struct parse *parse, const struct header *header, const struct weft_kind_ops *ops,
			const struct weft_yaml *root, const struct weft_at *at, const char *key, const char *text)
{
	weft_free_on_exit char *description = describe(header);
	struct weft_decode decode = { .problems = parse->problems, .file = parse->file, .resource = description,
				      .root = root, .root_at = at, .first_problem = parse->problems->count };

	if (!description)
		return -ENOMEM;
	weft_decode_error(&decode, key, "%s", text);
	return decode.status < 0 ? decode.status : refuse(parse, ops, header);
}

static int take_document(struct parse *parse, const struct weft_yaml *root, const struct weft_at *at, const char *version,
			 const char *kind)
{
	struct header header = header_of(root, version, kind);
	const struct weft_yaml *items = weft_yaml_get(root, "items");
	const struct weft_kind_ops *ops;
	weft_free_on_exit char *description = NULL;
	enum weft_kind_class class;
	const char *near;
	char text[512];

	if (root->type != WEFT_YAML_MAPPING)
		return take_unknown(parse, &header, NULL, root, at, "",
				    "a document must be a mapping with apiVersion, kind and metadata");
	if (is_list(&header, items))
		return take_list(parse, &header, items, at);
	class = weft_kind_classify(header.version, header.kind, &ops, &near);
	if (!*header.kind || !*header.version)
		return take_unknown(parse, &header, ops, root, at, *header.kind ? "apiVersion" : "kind",
				    "this field is required");
	switch (class) {
	case WEFT_KIND_CLASS_KNOWN:
		return take_known(parse, ops, &header, root, at);
	case WEFT_KIND_CLASS_VERSION:
		snprintf(text, sizeof(text), "`%.80s` of %s is not accepted, use %s", header.version, ops->name,
			 ops->versions[0]);
		return take_unknown(parse, &header, ops, root, at, "apiVersion", text);
	case WEFT_KIND_CLASS_NOTICE:
		description = describe(&header);
		if (!description)
			return -ENOMEM;
		return weft_problems_add(parse->problems, WEFT_SEVERITY_NOTICE, parse->file, root->line, description, NULL,
					 "%s of %s is not honoured yet", header.kind, header.version);
	case WEFT_KIND_CLASS_SILENT:
		return 0;
	case WEFT_KIND_CLASS_UNKNOWN:
		break;
	}
	if (near && strcmp(near, header.kind) != 0)
		snprintf(text, sizeof(text), "unknown kind `%.80s` of %.80s, did you mean `%s`?", header.kind, header.version, near);
	else
		snprintf(text, sizeof(text), "unknown kind `%.80s` of %.80s; take the document out of this directory",
			 header.kind, header.version);
	return take_unknown(parse, &header, NULL, root, at, "kind", text);
}

/* The reader found fault with the document: say whose it is, and keep the rest of its words out. */
static int take_faulty(struct parse *parse, struct weft_yaml_document *document)
{
	struct header header = { "", "", "", "" };
	weft_free_on_exit char *description = NULL;
	const struct weft_kind_ops *ops = NULL;
	const char *near;
	int r;

	if (document->root)
		header = header_of(document->root, "", "");
	(void)weft_kind_classify(header.version, header.kind, &ops, &near);
	description = describe(&header);
	if (!description)
		return -ENOMEM;
	for (size_t i = 0; i < document->problems.count; i++) {
		char *copy = strdup(description);

		if (!copy)
			return -ENOMEM;
		free(document->problems.item[i].resource);
		document->problems.item[i].resource = copy;
	}
	r = weft_problems_move(parse->problems, &document->problems);
	return r < 0 ? r : refuse(parse, ops, &header);
}

static int take_whole(struct parse *parse, struct weft_yaml_document *document)
{
	if (document->problems.count)
		return take_faulty(parse, document);
	/* Nothing between two `---` is no document. */
	if (!document->root || weft_yaml_is_null(document->root))
		return 0;
	return take_document(parse, document->root, NULL, "", "");
}

static int refuse_file(struct parse *parse, unsigned int line, const char *text)
{
	parse->conf->torn = true;
	return weft_problems_add(parse->problems, WEFT_SEVERITY_ERROR, parse->file, line, NULL, NULL, "%s", text);
}

/*
 * Writers stop in the middle of a line far more often than at its end. A last
 * document of such a text that does not say itself where it ends (`}`, `...`)
 * may be the half of something, and is refused.
 */
static int read_documents(struct parse *parse, const char *text, size_t size, bool settled)
{
	weft_cleanup(weft_yaml_reader_freep) struct weft_yaml_reader *reader =
		weft_yaml_reader_new(parse->file, text, size);
	bool cut = !settled && size && text[size - 1] != '\n', closed = false;
	unsigned int line = 0;
	size_t count = 0, last_resource = 0;
	int r;

	if (!reader)
		return -ENOMEM;
	for (;;) {
		struct weft_yaml_document document = { 0 };

		r = weft_yaml_read(reader, &document);
		if (r <= 0) {
			if (r == -EBADMSG) {
				parse->conf->torn = true;
				r = weft_problems_move(parse->problems, &document.problems);
				cut = false;
			}
			weft_yaml_document_done(&document);
			break;
		}
		closed = document.closed;
		line = document.line;
		last_resource = parse->conf->resource_count;
		if (++count > WEFT_CONF_MAX_DOCUMENTS)
			r = refuse_file(parse, line, "the file has more than 100000 documents; split it");
		else
			r = take_whole(parse, &document);
		weft_yaml_document_done(&document);
		if (r < 0 || count > WEFT_CONF_MAX_DOCUMENTS)
			return r;
	}
	if (r < 0 || !cut || closed)
		return r;
	while (parse->conf->resource_count > last_resource) {
		const struct weft_resource *half = parse->conf->resource[--parse->conf->resource_count];
		const struct header header = { "", "", half->meta.name, half->meta.namespace };

		r = refuse(parse, weft_kind_ops(half->kind), &header);
		weft_resource_free(parse->conf->resource[parse->conf->resource_count]);
		if (r < 0)
			return r;
	}
	return refuse_file(parse, line,
			   "the text ends in the middle of a line, so that its last document may be only half of it; end the last line with a newline, or leave the file alone for a moment");
}

void weft_conf_file_done(struct weft_conf_file *conf)
{
	for (size_t i = 0; i < conf->resource_count; i++)
		weft_resource_free(conf->resource[i]);
	for (size_t i = 0; i < conf->refused_count; i++) {
		free(conf->refused[i].namespace);
		free(conf->refused[i].name);
	}
	free(conf->resource);
	free(conf->refused);
	*conf = (struct weft_conf_file){ 0 };
}

int weft_conf_parse(const char *file, const char *text, size_t size, bool settled, struct weft_conf_file *conf,
		    struct weft_problems *problems)
{
	weft_cleanup(weft_arena_freep) struct weft_arena *scratch = weft_arena_new(0);
	struct parse parse = { .file = file, .conf = conf, .problems = problems, .scratch = scratch };
	int r;

	if (size > WEFT_CONF_MAX_FILE)
		return refuse_file(&parse, 0, "the file is larger than 16 MiB; split it");
	/* Editors empty a file before they write it. */
	conf->torn = size == 0 && !settled;
	r = read_documents(&parse, text, size, settled);
	weft_buf_done(&parse.canonical);
	return r;
}
