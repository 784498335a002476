/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which DestinationRule speaks for a service port: the exact host before a
 * wildcard, a longer wildcard before a shorter one, the oldest of equals.
 */
#include "model/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOST_MAX 1024

static struct weft_rule *rule_free(struct weft_rule *rule)
{
	if (rule) {
		free(rule->host);
		free(rule);
	}
	return NULL;
}
WEFT_CLEANUP_DEFINE(struct weft_rule, rule_free);

void weft_rules_done(struct weft_model *model)
{
	struct weft_rule *rule, *other;

	HASH_ITER(hh, model->rule, rule, other)
	{
		HASH_DELETE(hh, model->rule, rule);
		rule_free(rule);
	}
	for (size_t i = 0; i < model->wildcard_count; i++)
		rule_free(model->wildcard[i]);
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

static int longest_then_oldest(const void *a, const void *b)
{
	const struct weft_rule *left = *(const struct weft_rule *const *)a, *right = *(const struct weft_rule *const *)b;
	size_t left_size = strlen(left->host), right_size = strlen(right->host);

	if (left_size != right_size)
		return left_size > right_size ? -1 : 1;
	return older(left->resource, right->resource) ? -1 : 1;
}

int weft_rules_build(struct weft_model *model)
{
	struct weft_entry *entry, *other;

	weft_rules_done(model);
	if (!model->kind_count[WEFT_KIND_DESTINATION_RULE])
		return 0;
	HASH_ITER(hh, model->entry, entry, other)
	{
		weft_cleanup(rule_freep) struct weft_rule *rule = NULL;
		struct weft_rule *same;
		const char *host;

		if (entry->kind != WEFT_KIND_DESTINATION_RULE || !entry->resource)
			continue;
		host = entry->resource->destination_rule.host;
		rule = calloc(1, sizeof(*rule));
		if (!rule)
			return -ENOMEM;
		rule->resource = entry->resource;
		/* A short name means a service of the rule's own namespace; no host has a slash. */
		if (strchr(host, '.') || host[0] == '*')
			rule->host = strdup(host);
		else if (asprintf(&rule->host, "%s/%s", host, entry->namespace) < 0)
			rule->host = NULL;
		if (!rule->host)
			return -ENOMEM;
		if (host[0] == '*') {
			if (weft_grow(&model->wildcard, &model->wildcard_room, model->wildcard_count + 1,
				      sizeof(*model->wildcard)) < 0)
				return -ENOMEM;
			model->wildcard[model->wildcard_count++] = weft_take_ptr(rule);
			continue;
		}
		HASH_FIND_STR(model->rule, rule->host, same);
		if (same) {
			if (older(rule->resource, same->resource))
				same->resource = rule->resource;
			continue;
		}
		rule->hashed = true;
		HASH_ADD_KEYPTR(hh, model->rule, rule->host, strlen(rule->host), rule);
		if (!rule->hashed)
			return -ENOMEM;
		rule = NULL;
	}
	if (model->wildcard_count)
		qsort(model->wildcard, model->wildcard_count, sizeof(*model->wildcard), longest_then_oldest);
	return 0;
}

static const struct weft_resource *exact(const struct weft_model *model, const char *host,
					 const struct weft_resource *best)
{
	const struct weft_rule *rule;

	HASH_FIND_STR(model->rule, host, rule);
	return rule && (!best || older(rule->resource, best)) ? rule->resource : best;
}

static bool wildcard_matches(const char *wildcard, const char *host)
{
	size_t tail = strlen(wildcard + 1), size = strlen(host);

	return size > tail && strcmp(host + size - tail, wildcard + 1) == 0;
}

enum weft_simple_lb weft_rules_choose(const struct weft_model *model, const struct weft_entry *unit, uint16_t port)
{
	const struct weft_resource *best = NULL;
	const struct weft_mesh_config *mesh = &model->mesh->mesh_config;
	enum weft_simple_lb simple = WEFT_SIMPLE_LB_UNSPECIFIED;
	char fqdn[HOST_MAX], host[2 * HOST_MAX];

	if (unit->kind == WEFT_KIND_SERVICE) {
		snprintf(fqdn, sizeof(fqdn), "%s.%s.svc.%s", unit->name, unit->namespace, mesh->cluster_domain);
		best = exact(model, fqdn, best);
		snprintf(host, sizeof(host), "%s.%s.svc", unit->name, unit->namespace);
		best = exact(model, host, best);
		snprintf(host, sizeof(host), "%s.%s", unit->name, unit->namespace);
		best = exact(model, host, best);
		snprintf(host, sizeof(host), "%s/%s", unit->name, unit->namespace);
	} else {
		snprintf(fqdn, sizeof(fqdn), "%s", unit->resource->service_entry.hosts.item[0]);
		best = exact(model, fqdn, best);
		snprintf(host, sizeof(host), "%s/%s", fqdn, unit->namespace);
	}
	best = exact(model, host, best);
	for (size_t i = 0; !best && i < model->wildcard_count; i++)
		if (wildcard_matches(model->wildcard[i]->host, fqdn))
			best = model->wildcard[i]->resource;
	if (best) {
		const struct weft_destination_rule *rule = &best->destination_rule;

		simple = rule->simple;
		for (size_t i = 0; i < rule->port_level_count; i++)
			if (rule->port_level[i].port == port && rule->port_level[i].simple)
				simple = rule->port_level[i].simple;
	}
	return simple ? simple : mesh->load_balancer;
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
	group = weft_group_find(model->hosts, "", host);
	for (unit = group ? group->first : NULL; unit; unit = unit->group_next)
		weft_model_mark(model, unit);
}
