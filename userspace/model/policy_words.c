/* SPDX-License-Identifier: Apache-2.0 */
/* Policies in words, one line each: for `weft policy`, and for what `config diff` compares. */
#include "model/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "model/policy.h"

struct words {
	struct weft_buf *out;
	bool first; /* in a bracket */
	int status;
};

static void say(struct words *words, const char *format, const char *text)
{
	if (words->status == 0)
		words->status = weft_buf_printf(words->out, format, text);
}

static void begin_field(struct words *words, const char *key)
{
	say(words, words->first ? "%s" : ", %s", "");
	words->first = false;
	say(words, "%s: [", key);
}

static void say_texts(struct words *words, const char *key, const struct weft_strings *list)
{
	if (!list->count)
		return;
	begin_field(words, key);
	for (size_t i = 0; i < list->count; i++)
		say(words, i ? ", %s" : "%s", list->item[i]);
	say(words, "]%s", "");
}

static void say_cidrs(struct words *words, const char *key, const struct weft_cidrs *list)
{
	char shown[WEFT_ADDR_TEXT], whole[WEFT_ADDR_TEXT + 8];

	if (!list->count)
		return;
	begin_field(words, key);
	for (size_t i = 0; i < list->count; i++) {
		const struct weft_cidr *cidr = &list->item[i];

		snprintf(whole, sizeof(whole), "%s/%u", weft_addr_format(&cidr->addr, shown),
			 cidr->bits - (weft_addr_is_v4(&cidr->addr) ? 96 : 0));
		say(words, i ? ", %s" : "%s", whole);
	}
	say(words, "]%s", "");
}

static void say_ports(struct words *words, const char *key, const struct weft_ports *list)
{
	char port[16];

	if (!list->count)
		return;
	begin_field(words, key);
	for (size_t i = 0; i < list->count; i++) {
		snprintf(port, sizeof(port), "%u", list->item[i]);
		say(words, i ? ", %s" : "%s", port);
	}
	say(words, "]%s", "");
}

static void say_beyond(struct words *words, const char *key)
{
	if (!*key)
		return;
	say(words, words->first ? "%s" : ", %s", "");
	words->first = false;
	say(words, "%s: needs L7", key);
}

static void say_source(struct words *words, const struct weft_policy_source_match *source)
{
	say(words, "{%s", "");
	words->first = true;
	say_texts(words, "principals", &source->principals);
	say_texts(words, "notPrincipals", &source->not_principals);
	say_texts(words, "namespaces", &source->namespaces);
	say_texts(words, "notNamespaces", &source->not_namespaces);
	say_texts(words, "serviceAccounts", &source->service_accounts);
	say_texts(words, "notServiceAccounts", &source->not_service_accounts);
	say_texts(words, "trustDomains", &source->trust_domains);
	say_texts(words, "notTrustDomains", &source->not_trust_domains);
	say_cidrs(words, "ipBlocks", &source->ip_blocks);
	say_cidrs(words, "notIpBlocks", &source->not_ip_blocks);
	say_beyond(words, source->beyond);
	say(words, "}%s", "");
}

static void say_operation(struct words *words, const struct weft_policy_operation *operation)
{
	say(words, "{%s", "");
	words->first = true;
	say_ports(words, "ports", &operation->ports);
	say_ports(words, "notPorts", &operation->not_ports);
	say_beyond(words, operation->beyond);
	say(words, "}%s", "");
}

static void say_condition(struct words *words, const struct weft_policy_condition *condition)
{
	say(words, "%s {", condition->name);
	words->first = true;
	say_texts(words, "values", &condition->values);
	say_texts(words, "notValues", &condition->not_values);
	if (condition->key == WEFT_POLICY_KEY_BEYOND)
		say_beyond(words, "key");
	say(words, "}%s", "");
}

static void say_rule(struct words *words, const struct weft_policy_rule *rule)
{
	const char *gap = "";

	if (!rule->from_count && !rule->to_count && !rule->when_count)
		say(words, "everybody%s", "");
	for (size_t i = 0; i < rule->from_count; i++) {
		say(words, i ? " or %s" : "from %s", "");
		say_source(words, &rule->from[i]);
		gap = " ";
	}
	for (size_t i = 0; i < rule->to_count; i++) {
		say(words, i ? " or %s" : "%sto ", i ? "" : gap);
		say_operation(words, &rule->to[i]);
		gap = " ";
	}
	for (size_t i = 0; i < rule->when_count; i++) {
		say(words, i ? " and %s" : "%swhen ", i ? "" : gap);
		say_condition(words, &rule->when[i]);
	}
}

static const char *mode_name(enum weft_mtls_mode mode)
{
	static const char *const names[] = { [WEFT_MTLS_UNSET] = "UNSET",
					     [WEFT_MTLS_DISABLE] = "DISABLE",
					     [WEFT_MTLS_PERMISSIVE] = "PERMISSIVE",
					     [WEFT_MTLS_STRICT] = "STRICT" };

	return names[mode];
}

int weft_policy_words(const struct weft_resource *resource, struct weft_buf *out)
{
	struct words words = { .out = out };

	if (resource->kind == WEFT_KIND_PEER_AUTHENTICATION) {
		const struct weft_peer_authentication *own = &resource->peer_authentication;
		char port[32];

		say(&words, "%s", mode_name(own->mode));
		for (size_t i = 0; i < own->port_level_count; i++) {
			snprintf(port, sizeof(port), "; port %u ", own->port_level[i].port);
			say(&words, "%s", port);
			say(&words, "%s", mode_name(own->port_level[i].mode));
		}
		return words.status;
	}
	if (!resource->authorization_policy.rule_count)
		say(&words, "no rules%s", "");
	for (size_t i = 0; i < resource->authorization_policy.rule_count; i++) {
		say(&words, i ? " | %s" : "%s", "");
		say_rule(&words, &resource->authorization_policy.rule[i]);
	}
	return words.status;
}

/* ---- all of them ---- */

static bool is_policy(const struct weft_entry *entry)
{
	return entry->resource && (entry->kind == WEFT_KIND_PEER_AUTHENTICATION || entry->kind == WEFT_KIND_AUTHORIZATION_POLICY);
}

static int by_kind_and_name(const void *a, const void *b)
{
	const struct weft_entry *left = *(const struct weft_entry *const *)a, *right = *(const struct weft_entry *const *)b;
	int by = (int)left->kind - (int)right->kind;

	if (!by)
		by = strcmp(left->namespace, right->namespace);
	return by ? by : strcmp(left->name, right->name);
}

/* Workloads whose set has it, and how much of that set is its. */
static void count_use(const struct weft_model *model, const char *name, struct weft_policy_info *info)
{
	const struct weft_secure_map *map = &model->secure.map[WEFT_SECURE_WORKLOAD];
	size_t record_size = map->key_size + map->value_size;

	for (size_t i = 0; i < model->secure.sets.count; i++) {
		const struct weft_secure_set *set = &model->secure.sets.item[i];
		struct weft_set_view view = weft_set_view(set->block.data);
		size_t clauses = 0;
		bool has = false;

		for (uint32_t j = 0; j < view.header->policy_count; j++)
			has |= strcmp(view.text + view.policy[j].text, name) == 0;
		if (!has)
			continue;
		for (uint32_t j = 0; j < view.header->clause_count; j++)
			clauses += strcmp(view.text + view.policy[view.clause[j].policy].text, name) == 0;
		info->clauses = clauses > info->clauses ? clauses : info->clauses;
		for (size_t at = 0; at < map->have.size; at += record_size) {
			struct weft_workload row;

			memcpy(&row, map->have.data + at + map->key_size, sizeof(row));
			info->workloads += row.policy == set->id;
		}
	}
}

int weft_model_policies(const struct weft_model *model, int (*each)(void *context, const struct weft_policy_info *policy),
			void *context)
{
	weft_free_on_exit const struct weft_entry **list = NULL;
	size_t count = 0, room = 0;
	const struct weft_entry *entry;
	int r = 0;

	for (size_t at = 0; (entry = weft_hash_table_next(&model->entry, &at));) {
		if (!is_policy(entry))
			continue;
		if (weft_grow(&list, &room, count + 1, sizeof(*list)) < 0)
			return -ENOMEM;
		list[count++] = entry;
	}
	if (count)
		qsort(list, count, sizeof(*list), by_kind_and_name);
	for (size_t i = 0; r == 0 && i < count; i++) {
		const struct weft_resource *resource = list[i]->resource;
		bool mtls = list[i]->kind == WEFT_KIND_PEER_AUTHENTICATION;
		const struct weft_pairs *selector = mtls ? &resource->peer_authentication.selector :
								   &resource->authorization_policy.selector;
		bool root = strcmp(list[i]->namespace, weft_model_mesh(model)->root_namespace) == 0;
		struct weft_policy_info info = { .resource = resource };
		weft_buf_done_on_exit struct weft_buf name = WEFT_BUF_INIT;

		info.scope = selector->count ? "workloads" : root ? "mesh" : "namespace";
		info.action = mtls ? mode_name(resource->peer_authentication.mode) :
			      resource->authorization_policy.action == WEFT_POLICY_DENY ? "DENY" : "ALLOW";
		info.dry_run = !mtls && resource->authorization_policy.dry_run;
		r = weft_buf_printf(&name, "%s %s/%s", weft_kind_name((enum weft_kind)list[i]->kind), list[i]->namespace, list[i]->name);
		if (r < 0)
			return r;
		info.name = name.data;
		count_use(model, name.data, &info);
		for (size_t j = 0; j < model->secure.problems.count; j++)
			info.beyond |= strcmp(model->secure.problems.item[j].resource, name.data) == 0;
		r = each(context, &info);
	}
	return r;
}
