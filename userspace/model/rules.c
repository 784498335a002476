/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which DestinationRule speaks for a service port: one of the service's own
 * namespace before any other, so that nobody decides over the head of its
 * owner; then the exact host before a wildcard, a longer wildcard before a
 * shorter one; of equals one with a traffic policy, then the oldest.
 */
#include "model/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOST_MAX 1024

static struct weft_rule *rule_new(const struct weft_resource *resource, const char *host)
{
	struct weft_rule *rule = malloc(sizeof(*rule) + strlen(host) + 1);

	if (rule) {
		rule->resource = resource;
		strcpy(rule->host, host);
	}
	return rule;
}

static uint32_t hash_host(const char *host)
{
	return weft_hash(host, strlen(host), 0);
}

static uint32_t rule_hash(const void *item)
{
	return hash_host(((const struct weft_rule *)item)->host);
}

static bool rule_is(const void *item, const void *key)
{
	return strcmp(((const struct weft_rule *)item)->host, key) == 0;
}

void weft_rules_done(struct weft_model *model)
{
	struct weft_rule *rule;

	for (size_t at = 0; (rule = weft_hash_table_next(&model->rule, &at));)
		free(rule);
	weft_hash_table_done(&model->rule);
	for (size_t i = 0; i < model->wildcard_count; i++)
		free(model->wildcard[i]);
	free(model->wildcard);
	model->wildcard = NULL;
	model->wildcard_count = model->wildcard_room = 0;
}

static bool older(const struct weft_resource *a, const struct weft_resource *b)
{
	int by;

	if (a->meta.created != b->meta.created)
		return a->meta.created < b->meta.created;
	by = strcmp(a->meta.namespace, b->meta.namespace);
	return by ? by < 0 : strcmp(a->meta.name, b->meta.name) < 0;
}

static bool speaks_before(const struct weft_resource *a, const struct weft_resource *b)
{
	bool says = a->destination_rule.simple || a->destination_rule.port_level_count;
	bool other_says = b->destination_rule.simple || b->destination_rule.port_level_count;

	return says != other_says ? says : older(a, b);
}

static int longest_first(const void *a, const void *b)
{
	const struct weft_rule *left = *(const struct weft_rule *const *)a, *right = *(const struct weft_rule *const *)b;
	size_t left_size = strlen(left->host), right_size = strlen(right->host);

	if (left_size != right_size)
		return left_size > right_size ? -1 : 1;
	return speaks_before(left->resource, right->resource) ? -1 : 1;
}

static int add_wildcard(struct weft_model *model, const struct weft_resource *resource)
{
	weft_free_on_exit struct weft_rule *rule = rule_new(resource, resource->destination_rule.host);

	if (!rule || weft_grow(&model->wildcard, &model->wildcard_room, model->wildcard_count + 1,
			       sizeof(*model->wildcard)) < 0)
		return -ENOMEM;
	model->wildcard[model->wildcard_count++] = weft_take_ptr(rule);
	return 0;
}

/* Under "host/namespace" for the services of its own namespace, under "host" for those of others; no host has a slash. */
static int add_exact(struct weft_model *model, const struct weft_resource *resource, bool own)
{
	weft_free_on_exit struct weft_rule *rule = NULL;
	weft_free_on_exit char *host = NULL;
	struct weft_rule *same;

	if (asprintf(&host, "%s%s%s", resource->destination_rule.host, own ? "/" : "",
		     own ? resource->meta.namespace : "") < 0) {
		host = NULL;
		return -ENOMEM;
	}
	same = weft_hash_table_find(&model->rule, hash_host(host), rule_is, host);
	if (same) {
		if (speaks_before(resource, same->resource))
			same->resource = resource;
		return 0;
	}
	rule = rule_new(resource, host);
	if (!rule || weft_hash_table_add(&model->rule, rule, rule_hash) < 0)
		return -ENOMEM;
	rule = NULL;
	return 0;
}

int weft_rules_build(struct weft_model *model)
{
	const struct weft_entry *entry;

	weft_rules_done(model);
	if (!model->kind_count[WEFT_KIND_DESTINATION_RULE])
		return 0;
	for (size_t at = 0; (entry = weft_hash_table_next(&model->entry, &at));) {
		const char *host;
		int r;

		if (entry->kind != WEFT_KIND_DESTINATION_RULE || !entry->resource)
			continue;
		host = entry->resource->destination_rule.host;
		if (host[0] == '*') {
			r = add_wildcard(model, entry->resource);
		} else {
			r = add_exact(model, entry->resource, true);
			/* A short name means a service of the rule's own namespace. */
			if (r == 0 && strchr(host, '.'))
				r = add_exact(model, entry->resource, false);
		}
		if (r < 0)
			return r;
	}
	if (model->wildcard_count)
		qsort(model->wildcard, model->wildcard_count, sizeof(*model->wildcard), longest_first);
	return 0;
}

static bool wildcard_matches(const char *wildcard, const char *host)
{
	size_t tail = strlen(wildcard + 1), size = strlen(host);

	return size > tail && strcmp(host + size - tail, wildcard + 1) == 0;
}

static const struct weft_resource *exact(const struct weft_model *model, const char *host, const char *own,
					 const struct weft_resource *best)
{
	const struct weft_rule *rule;
	char key[2 * HOST_MAX];

	snprintf(key, sizeof(key), "%s%s%s", host, own ? "/" : "", own ? own : "");
	rule = weft_hash_table_find(&model->rule, hash_host(key), rule_is, key);
	return rule && (!best || speaks_before(rule->resource, best)) ? rule->resource : best;
}

/* The unit's rule among those of the namespace `own`, or of all if it is NULL. */
static const struct weft_resource *find_rule(const struct weft_model *model, const struct weft_entry *unit,
					     const char *own)
{
	const char *domain = model->mesh->mesh_config.cluster_domain;
	const struct weft_resource *best = NULL;
	char fqdn[HOST_MAX], host[HOST_MAX];

	if (unit->kind == WEFT_KIND_SERVICE) {
		snprintf(fqdn, sizeof(fqdn), "%s.%s.svc.%s", unit->name, unit->namespace, domain);
		snprintf(host, sizeof(host), "%s.%s.svc", unit->name, unit->namespace);
		best = exact(model, host, own, best);
		snprintf(host, sizeof(host), "%s.%s", unit->name, unit->namespace);
		best = exact(model, host, own, best);
		if (own)
			best = exact(model, unit->name, own, best);
	} else {
		snprintf(fqdn, sizeof(fqdn), "%s", unit->resource->service_entry.hosts.item[0]);
	}
	best = exact(model, fqdn, own, best);
	for (size_t i = 0; !best && i < model->wildcard_count; i++)
		if ((!own || strcmp(model->wildcard[i]->resource->meta.namespace, own) == 0) &&
		    wildcard_matches(model->wildcard[i]->host, fqdn))
			best = model->wildcard[i]->resource;
	return best;
}

enum weft_simple_lb weft_rules_choose(const struct weft_model *model, const struct weft_entry *unit, uint16_t port)
{
	enum weft_simple_lb simple = WEFT_SIMPLE_LB_UNSPECIFIED;
	const struct weft_resource *best = NULL;

	if (model->rule.count || model->wildcard_count) {
		best = find_rule(model, unit, unit->namespace);
		if (!best)
			best = find_rule(model, unit, NULL);
	}
	if (best) {
		const struct weft_destination_rule *rule = &best->destination_rule;

		simple = rule->simple;
		/* A port of its own inherits nothing, not even what it leaves out. */
		for (size_t i = 0; i < rule->port_level_count; i++)
			if (rule->port_level[i].port == port)
				simple = rule->port_level[i].simple;
	}
	return simple ? simple : model->mesh->mesh_config.load_balancer;
}

void weft_rules_mark(struct weft_model *model, const struct weft_resource *rule)
{
	const char *host = rule->destination_rule.host, *dot = strchr(host, '.');
	char name[HOST_MAX], namespace[HOST_MAX];
	const struct weft_group *group;
	struct weft_entry *unit;

	if (host[0] == '*') {
		model->all_units_dirty = true;
		return;
	}
	snprintf(name, sizeof(name), "%.*s", dot ? (int)(dot - host) : (int)strlen(host), host);
	if (dot)
		snprintf(namespace, sizeof(namespace), "%.*s", (int)strcspn(dot + 1, "."), dot + 1);
	else
		snprintf(namespace, sizeof(namespace), "%s", rule->meta.namespace);
	unit = weft_model_find(model, WEFT_KIND_SERVICE, namespace, name);
	if (unit)
		weft_model_mark(model, unit);
	group = weft_group_find(&model->hosts, "", host);
	for (unit = group ? group->first : NULL; unit; unit = unit->group_next)
		weft_model_mark(model, unit);
}
