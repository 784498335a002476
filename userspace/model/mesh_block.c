/* SPDX-License-Identifier: Apache-2.0 */
/* What proxies are told, out of what is in force; the other half is mesh.c, which knows no model. */
#include "model/mesh.h"

#include <errno.h>
#include <string.h>

#include "model/state.h"

/* Texts that were added, by their offsets; most are there many times. */
struct texts {
	struct weft_buf buf;
	uint32_t *slot;
	size_t room, used;
};

struct block {
	const struct weft_model *model;
	struct texts texts;
	struct weft_buf record, address, service, set, sets;
	uint32_t *set_index; /* by place in the model's list, from 1; 0: not added */
};

static void block_done(struct block *block)
{
	weft_buf_done(&block->texts.buf);
	free(block->texts.slot);
	weft_buf_done(&block->record);
	weft_buf_done(&block->address);
	weft_buf_done(&block->service);
	weft_buf_done(&block->set);
	weft_buf_done(&block->sets);
	free(block->set_index);
}

static uint32_t *text_slot(const struct texts *texts, const char *text)
{
	size_t at = weft_hash(text, strlen(text), 0) & (texts->room - 1);

	while (texts->slot[at] && strcmp(texts->buf.data + texts->slot[at], text) != 0)
		at = (at + 1) & (texts->room - 1);
	return &texts->slot[at];
}

static int texts_grow(struct texts *texts)
{
	size_t room = texts->room ? texts->room * 2 : 256, old_room = texts->room;
	uint32_t *old = texts->slot, *slot;

	if (texts->used * 2 < texts->room)
		return 0;
	slot = calloc(room, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	texts->slot = slot;
	texts->room = room;
	for (size_t i = 0; i < old_room; i++)
		if (old[i])
			*text_slot(texts, texts->buf.data + old[i]) = old[i];
	free(old);
	return 0;
}

/* Offset 0 is "". */
static int add_text(struct texts *texts, const char *text, uint32_t *ret_offset)
{
	uint32_t *slot;
	size_t at;

	if (!*text) {
		*ret_offset = 0;
		return 0;
	}
	if (texts_grow(texts) < 0)
		return -ENOMEM;
	slot = text_slot(texts, text);
	if (!*slot) {
		at = texts->buf.size;
		if (at > UINT32_MAX / 2 || weft_buf_add(&texts->buf, text, strlen(text) + 1) < 0)
			return -ENOMEM;
		*slot = (uint32_t)at;
		texts->used++;
	}
	*ret_offset = *slot;
	return 0;
}

static int add_set(struct block *block, const struct weft_secure_set *set, uint32_t *ret_index)
{
	struct weft_mesh_set place = { .offset = block->sets.size, .size = set->block.size };
	uint32_t *index = &block->set_index[set - block->model->secure.sets.item];

	if (!*index) {
		if (weft_buf_add(&block->set, &place, sizeof(place)) < 0 ||
		    weft_buf_add(&block->sets, set->block.data, set->block.size) < 0)
			return -ENOMEM;
		*index = (uint32_t)(block->set.size / sizeof(place));
	}
	*ret_index = *index;
	return 0;
}

static const char *region_of(const struct weft_model *model, const struct weft_resource *resource, char *text, size_t size)
{
	const struct weft_entry *node;

	if (resource->kind == WEFT_KIND_POD) {
		node = weft_model_find(model, WEFT_KIND_NODE, "", resource->pod.node_name);
		return node && node->resource ? node->resource->node.region : "";
	}
	snprintf(text, size, "%.*s", (int)strcspn(resource->workload_entry.locality, "/"), resource->workload_entry.locality);
	return text;
}

static int add_workload(struct block *block, const struct weft_entry *entry, const struct weft_taking_part *part)
{
	const struct weft_model *model = block->model;
	const struct weft_workload *row = weft_secure_row_of(model, entry->workload);
	const struct weft_workload_name *name = weft_names_workload(model->names, entry->workload);
	const struct weft_secure_set *set = weft_secure_set_of(model, entry->workload);
	weft_buf_done_on_exit struct weft_buf identity = WEFT_BUF_INIT;
	struct weft_mesh_record record = { .id = entry->workload };
	bool replicated = weft_pairs_get(part->labels, "pod-template-hash") != NULL;
	char region[256];
	struct {
		const char *text;
		uint32_t *to;
	} texts[11];
	int r;

	if (!row || !name)
		return 0;
	r = weft_secure_identity(model, entry, &identity);
	record.flags = row->flags;
	if (r == 0 && set)
		r = add_set(block, set, &record.set);
	texts[0].text = identity.data ? identity.data : "", texts[0].to = &record.identity;
	texts[1].text = name->namespace, texts[1].to = &record.namespace;
	texts[2].text = *name->service_account ? name->service_account : "default", texts[2].to = &record.service_account;
	texts[3].text = name->name, texts[3].to = &record.name;
	texts[4].text = name->owner, texts[4].to = &record.owner;
	texts[5].text = replicated ? "deployment" : "pod", texts[5].to = &record.owner_kind;
	texts[6].text = name->app, texts[6].to = &record.app;
	texts[7].text = name->version, texts[7].to = &record.version;
	texts[8].text = region_of(model, entry->resource, region, sizeof(region)), texts[8].to = &record.region;
	texts[9].text = name->zone, texts[9].to = &record.zone;
	texts[10].text = "Kubernetes", texts[10].to = &record.cluster; /* Istio's name of a cluster that nobody named */
	for (size_t i = 0; r == 0 && i < WEFT_ARRAY_SIZE(texts); i++)
		r = add_text(&block->texts, texts[i].text, texts[i].to);
	if (r == 0)
		r = weft_buf_add(&block->record, &record, sizeof(record));
	/* An address that two claim is whose weft_workload_at says. */
	for (size_t i = 0; r == 0 && i < part->addr_count; i++) {
		const struct weft_frontend_key key = { .addr = part->addr[i] };
		const struct weft_row *at = weft_row_find(model, WEFT_MAP_WORKLOAD_AT, &key);
		struct weft_mesh_address address = { .addr = part->addr[i], .record = record.id };

		if (at && at->there && at->have.workload == record.id)
			r = weft_buf_add(&block->address, &address, sizeof(address));
	}
	return r;
}

static int by_id(const void *a, const void *b)
{
	uint32_t left = ((const struct weft_mesh_record *)a)->id, right = ((const struct weft_mesh_record *)b)->id;

	return left < right ? -1 : left > right;
}

static int by_address(const void *a, const void *b)
{
	return weft_addr_compare(&((const struct weft_mesh_address *)a)->addr, &((const struct weft_mesh_address *)b)->addr);
}

/* Sorted; addresses have ids until now, and indices of records from here on. */
static void settle(struct block *block)
{
	struct weft_mesh_record *record = (void *)block->record.data;
	struct weft_mesh_address *address = (void *)block->address.data;
	size_t count = block->record.size / sizeof(*record), kept = 0;

	if (count)
		qsort(record, count, sizeof(*record), by_id);
	if (!block->address.size)
		return;
	qsort(address, block->address.size / sizeof(*address), sizeof(*address), by_address);
	for (size_t i = 0; i < block->address.size / sizeof(*address); i++) {
		struct weft_mesh_record key = { .id = address[i].record };
		const struct weft_mesh_record *found = bsearch(&key, record, count, sizeof(*record), by_id);

		/* A pod may list an address twice. */
		if (kept && weft_addr_compare(&address[kept - 1].addr, &address[i].addr) == 0)
			continue;
		address[kept] = address[i];
		address[kept++].record = (uint32_t)(found - record);
	}
	block->address.size = kept * sizeof(*address);
}

static int add_services(struct block *block)
{
	const struct weft_service_name *name = NULL;
	int r = 0;

	while (r == 0 && (name = weft_names_next_service(block->model->names, name ? name->id : 0))) {
		struct weft_mesh_service service = { .id = name->id };

		r = add_text(&block->texts, name->host, &service.host);
		if (r == 0)
			r = weft_buf_add(&block->service, &service, sizeof(service));
	}
	return r;
}

static int put(struct weft_buf *out, const struct weft_buf *part)
{
	int r = weft_buf_add(out, part->data, part->size);

	return r < 0 ? r : weft_buf_reserve(out, -part->size & 7, NULL);
}

int weft_model_mesh_block(const struct weft_model *model, uint64_t generation, struct weft_buf *out)
{
	weft_cleanup(block_done) struct block block = { .model = model };
	weft_buf_done_on_exit struct weft_buf whole = WEFT_BUF_INIT;
	struct weft_mesh_header header = {
		.magic = WEFT_MESH_MAGIC, .generation = generation, .version = WEFT_MESH_VERSION
	};
	const struct weft_entry *entry;
	int r = weft_buf_add(&block.texts.buf, "", 1);

	block.set_index = calloc(model->secure.sets.count + 1, sizeof(*block.set_index));
	if (!block.set_index)
		r = -ENOMEM;
	if (r == 0)
		r = add_text(&block.texts, weft_model_mesh(model)->trust_domain, &header.trust_domain);
	for (size_t at = 0; r == 0 && (entry = weft_hash_table_next(&model->entry, &at));) {
		struct weft_taking_part part;

		if (weft_secure_takes_part(model, entry, &part))
			r = add_workload(&block, entry, &part);
	}
	if (r == 0)
		r = add_services(&block);
	if (r < 0)
		return r;
	settle(&block);
	header.workload_count = (uint32_t)(block.record.size / sizeof(struct weft_mesh_record));
	header.address_count = (uint32_t)(block.address.size / sizeof(struct weft_mesh_address));
	header.service_count = (uint32_t)(block.service.size / sizeof(struct weft_mesh_service));
	header.set_count = (uint32_t)(block.set.size / sizeof(struct weft_mesh_set));
	header.sets_size = block.sets.size;
	header.text_size = (uint32_t)block.texts.buf.size;
	r = weft_buf_add(&whole, &header, sizeof(header));
	for (size_t i = 0; r == 0 && i < 6; i++)
		r = put(&whole, (const struct weft_buf *[]){ &block.record, &block.address, &block.service, &block.set,
							     &block.sets, &block.texts.buf }[i]);
	if (r < 0)
		return r;
	((struct weft_mesh_header *)(void *)whole.data)->size = whole.size;
	return weft_buf_add(out, whole.data, whole.size);
}
