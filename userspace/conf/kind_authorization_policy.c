/* SPDX-License-Identifier: Apache-2.0 */
/*
 * security.istio.io AuthorizationPolicy. What needs L7 is kept as a mark and
 * not passed over, so that the model can hold a rule that has it closed.
 */
#include "conf/kind.h"

#include <string.h>

/* Of one list: each value is compared with each peer. */
#define VALUES_MAX 1024
#define RULES_MAX 256
#define BEYOND                                                                                                      \
	"needs L7, which is not there yet: an ALLOW rule with it allows nothing, a DENY rule denies as if this were " \
	"not asked for"

struct document {
	struct weft_meta meta;
	struct weft_authorization_policy policy;
};

/* ---- values ---- */

static const char *check_pattern(const char *text)
{
	size_t size = strlen(text);
	const char *star = strchr(text, '*');

	if (!size)
		return "a text: an empty one matches nobody";
	return !star || (!strchr(star + 1, '*') && (star == text || star == text + size - 1)) ?
		       NULL :
		       "at most one `*`, at the beginning or at the end: elsewhere it would be meant as the character";
}

static const char *check_account(const char *text)
{
	const char *slash = strchr(text, '/'), *name = slash ? slash + 1 : text;

	return !strchr(text, '*') && *text && slash != text && *name && !strchr(name, '/') ?
		       NULL :
		       "NAMESPACE/NAME, or NAME for one of the policy's own namespace, without `*`";
}

/* weft_type_string's own check lets an empty text pass. */
static void decode_checked(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target,
			   const char *(*check)(const char *text))
{
	const char **text = target, *expected;

	*text = NULL;
	if (node->type == WEFT_YAML_SCALAR && weft_yaml_scalar(node) == WEFT_SCALAR_STRING) {
		expected = check(node->text);
		*text = weft_decode_copy(decode, node->text);
		if (expected)
			weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at, "`%.80s` is not accepted, expected %s",
					    node->text, expected);
		return;
	}
	weft_decode_value(decode, &weft_type_string, node, at, target);
}

static void decode_pattern(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	decode_checked(decode, node, at, target, check_pattern);
}

static void decode_account(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	decode_checked(decode, node, at, target, check_account);
}

static uint16_t port_of(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	long port = digits && digits < 6 && !text[digits] && text[0] != '0' ? strtol(text, NULL, 10) : 0;

	return port > UINT16_MAX ? 0 : (uint16_t)port;
}

/* Istio has ports as strings; numbers are understood too. */
static void decode_port(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	uint16_t port = node->type == WEFT_YAML_SCALAR ? port_of(node->text) : 0;

	if (!port)
		weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at,
				    "`%.80s` is not a port, expected a number from 1 to 65535",
				    node->type == WEFT_YAML_SCALAR ? node->text : "");
	*(uint16_t *)target = port;
}

static void decode_beyond(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	if (node->type != WEFT_YAML_SCALAR && !node->count)
		return;
	*(const char **)target = weft_decode_copy(decode, at->key);
	weft_decode_problem(decode, WEFT_SEVERITY_NOTICE, node, at, BEYOND);
}

static const struct weft_type pattern = { .id = WEFT_TYPE_CUSTOM, .size = sizeof(char *), .decode = decode_pattern };
static const struct weft_type patterns = { .id = WEFT_TYPE_LIST, .element = &pattern, .max = VALUES_MAX };
static const struct weft_type account = { .id = WEFT_TYPE_CUSTOM, .size = sizeof(char *), .decode = decode_account };
static const struct weft_type accounts = { .id = WEFT_TYPE_LIST, .element = &account, .max = VALUES_MAX };
static const struct weft_type cidrs = { .id = WEFT_TYPE_LIST, .element = &weft_type_cidr, .max = VALUES_MAX };
static const struct weft_type port = { .id = WEFT_TYPE_CUSTOM, .size = sizeof(uint16_t), .decode = decode_port };
static const struct weft_type ports = { .id = WEFT_TYPE_LIST, .element = &port, .max = VALUES_MAX };
static const struct weft_type values = { .id = WEFT_TYPE_LIST, .element = &weft_type_string, .max = VALUES_MAX };
static const struct weft_type beyond = { .id = WEFT_TYPE_CUSTOM, .decode = decode_beyond };

/* ---- rules ---- */

#define SOURCE(key, type, member) WEFT_FIELD(key, type, struct weft_policy_source_match, member)
static const struct weft_field source_fields[] = {
	SOURCE("principals", patterns, principals),
	SOURCE("notPrincipals", patterns, not_principals),
	SOURCE("namespaces", patterns, namespaces),
	SOURCE("notNamespaces", patterns, not_namespaces),
	SOURCE("serviceAccounts", accounts, service_accounts),
	SOURCE("notServiceAccounts", accounts, not_service_accounts),
	SOURCE("trustDomains", patterns, trust_domains),
	SOURCE("notTrustDomains", patterns, not_trust_domains),
	SOURCE("ipBlocks", cidrs, ip_blocks),
	SOURCE("notIpBlocks", cidrs, not_ip_blocks),
	SOURCE("requestPrincipals", beyond, beyond),
	SOURCE("notRequestPrincipals", beyond, beyond),
	SOURCE("remoteIpBlocks", beyond, beyond),
	SOURCE("notRemoteIpBlocks", beyond, beyond),
};
static const struct weft_policy_source_match source_initial = { .beyond = "" };
static const struct weft_table source_table = {
	WEFT_FIELDS(source_fields), .initial = &source_initial, .size = sizeof(source_initial)
};
static const struct weft_type source = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_policy_source_match), .table = &source_table
};
static const struct weft_field from_fields[] = { { "source", &source, 0, false } };
static const struct weft_table from_table = {
	WEFT_FIELDS(from_fields), .initial = &source_initial, .size = sizeof(source_initial)
};
static const struct weft_type from = { .id = WEFT_TYPE_OBJECT, .size = sizeof(source_initial), .table = &from_table };
static const struct weft_type froms = { .id = WEFT_TYPE_LIST, .element = &from, .max = RULES_MAX };

#define OPERATION(key, type, member) WEFT_FIELD(key, type, struct weft_policy_operation, member)
static const struct weft_field operation_fields[] = {
	OPERATION("ports", ports, ports),     OPERATION("notPorts", ports, not_ports),
	OPERATION("hosts", beyond, beyond),   OPERATION("notHosts", beyond, beyond),
	OPERATION("methods", beyond, beyond), OPERATION("notMethods", beyond, beyond),
	OPERATION("paths", beyond, beyond),   OPERATION("notPaths", beyond, beyond),
};
static const struct weft_policy_operation operation_initial = { .beyond = "" };
static const struct weft_table operation_table = {
	WEFT_FIELDS(operation_fields), .initial = &operation_initial, .size = sizeof(operation_initial)
};
static const struct weft_type operation = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_policy_operation), .table = &operation_table
};
static const struct weft_field to_fields[] = { { "operation", &operation, 0, false } };
static const struct weft_table to_table = {
	WEFT_FIELDS(to_fields), .initial = &operation_initial, .size = sizeof(operation_initial)
};
static const struct weft_type to = { .id = WEFT_TYPE_OBJECT, .size = sizeof(operation_initial), .table = &to_table };
static const struct weft_type tos = { .id = WEFT_TYPE_LIST, .element = &to, .max = RULES_MAX };

#define CONDITION(key, type, member) WEFT_FIELD(key, type, struct weft_policy_condition, member)
static const struct weft_field condition_fields[] = {
	WEFT_FIELD_REQUIRED("key", weft_type_string, struct weft_policy_condition, name),
	CONDITION("values", values, values),
	CONDITION("notValues", values, not_values),
};
static const struct weft_policy_condition condition_initial = { .name = "" };
static const struct weft_table condition_table = {
	WEFT_FIELDS(condition_fields), .initial = &condition_initial, .size = sizeof(condition_initial)
};
static const struct weft_type condition = {
	.id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_policy_condition), .table = &condition_table
};
static const struct weft_type conditions = { .id = WEFT_TYPE_LIST, .element = &condition, .max = RULES_MAX };

static const struct weft_field rule_fields[] = {
	WEFT_FIELD_LIST("from", froms, struct weft_policy_rule, from, from_count),
	WEFT_FIELD_LIST("to", tos, struct weft_policy_rule, to, to_count),
	WEFT_FIELD_LIST("when", conditions, struct weft_policy_rule, when, when_count),
};
static const struct weft_policy_rule rule_initial = { 0 };
static const struct weft_table rule_table = {
	WEFT_FIELDS(rule_fields), .initial = &rule_initial, .size = sizeof(rule_initial)
};
static const struct weft_type rule = { .id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_policy_rule), .table = &rule_table };
static const struct weft_type rules = { .id = WEFT_TYPE_LIST, .element = &rule, .max = RULES_MAX };

static void decode_action(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	static const struct weft_word words[] = { { "ALLOW", WEFT_POLICY_ALLOW }, { "DENY", WEFT_POLICY_DENY }, { NULL, 0 } };
	static const struct weft_type word = { .id = WEFT_TYPE_WORD, .size = sizeof(enum weft_policy_action), .words = words };
	const char *text = node->type == WEFT_YAML_SCALAR ? node->text : "";

	if (strcmp(text, "AUDIT") == 0)
		weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at,
				    "AUDIT needs an auditing plugin and decides nothing; use ALLOW or DENY, with annotation "
				    WEFT_ANNOTATION_DRY_RUN ": \"true\" to only see what it would do");
	else if (strcmp(text, "CUSTOM") == 0)
		weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at,
				    "CUSTOM asks an external authorizer about each request, which needs L7 and is not there yet; "
				    "use ALLOW or DENY");
	else
		weft_decode_value(decode, &word, node, at, target);
}

/* To pass over it would leave open what the policy closes. */
static void refuse_target(struct weft_decode *decode, const struct weft_yaml *node, const struct weft_at *at, void *target)
{
	(void)target;
	if (node->type == WEFT_YAML_SCALAR || node->count)
		weft_decode_problem(decode, WEFT_SEVERITY_ERROR, node, at,
				    "policies of Services and Gateways are enforced by waypoints, which are not there yet; use "
				    "spec.selector with the labels of workloads");
}

static const struct weft_type action = { .id = WEFT_TYPE_CUSTOM, .decode = decode_action };
static const struct weft_type target = { .id = WEFT_TYPE_CUSTOM, .decode = refuse_target };

static const struct weft_field spec_fields[] = {
	WEFT_FIELD("selector", weft_type_workload_selector, struct weft_authorization_policy, selector),
	WEFT_FIELD("action", action, struct weft_authorization_policy, action),
	WEFT_FIELD_LIST("rules", rules, struct weft_authorization_policy, rule, rule_count),
	{ "targetRef", &target, 0, false },
	{ "targetRefs", &target, 0, false },
};
static const struct weft_table spec_table = { WEFT_FIELDS(spec_fields), .notice = WEFT_WORDS("provider") };
static const struct weft_type spec = { .id = WEFT_TYPE_OBJECT, .table = &spec_table };

static const struct document initial = { .meta = WEFT_META_INITIAL };
static const struct weft_field fields[] = {
	WEFT_KIND_TOP(struct document),
	WEFT_FIELD("spec", spec, struct document, policy),
};
static const struct weft_table table = {
	WEFT_FIELDS(fields),
	.silent = WEFT_WORDS("apiVersion", "kind", "status"),
	.initial = &initial,
	.size = sizeof(struct document),
};

/* ---- checks ---- */

static const struct {
	const char *name;
	enum weft_policy_key key;
} keys[] = {
	{ "source.ip", WEFT_POLICY_KEY_SOURCE_IP },
	{ "source.namespace", WEFT_POLICY_KEY_SOURCE_NAMESPACE },
	{ "source.principal", WEFT_POLICY_KEY_SOURCE_PRINCIPAL },
	{ "source.serviceAccount", WEFT_POLICY_KEY_SOURCE_SERVICE_ACCOUNT },
	{ "destination.port", WEFT_POLICY_KEY_DESTINATION_PORT },
};

static void take_cidrs(struct weft_decode *decode, const char *path, const struct weft_strings *texts, struct weft_cidrs *ret_cidrs)
{
	struct weft_cidr *list = weft_decode_alloc(decode, texts->count * sizeof(*list));

	for (size_t i = 0; list && i < texts->count; i++)
		if (weft_cidr_parse(texts->item[i], &list[i]) < 0)
			weft_decode_error(decode, weft_path("%s[%zu]", path, i).text,
					  "`%.80s` is not an IP prefix, expected one like 10.0.0.0/8 or fd00::/8 without bits "
					  "behind the prefix",
					  texts->item[i]);
	*ret_cidrs = (struct weft_cidrs){ list, list ? texts->count : 0 };
}

static void take_ports(struct weft_decode *decode, const char *path, const struct weft_strings *texts, struct weft_ports *ret_ports)
{
	uint16_t *list = weft_decode_alloc(decode, texts->count * sizeof(*list));

	for (size_t i = 0; list && i < texts->count; i++) {
		list[i] = port_of(texts->item[i]);
		if (!list[i])
			weft_decode_error(decode, weft_path("%s[%zu]", path, i).text,
					  "`%.80s` is not a port, expected a number from 1 to 65535", texts->item[i]);
	}
	*ret_ports = (struct weft_ports){ list, list ? texts->count : 0 };
}

static void check_texts(struct weft_decode *decode, const char *path, const struct weft_strings *texts,
			const char *(*check)(const char *text))
{
	for (size_t i = 0; i < texts->count; i++) {
		const char *expected = check(texts->item[i]);

		if (expected)
			weft_decode_error(decode, weft_path("%s[%zu]", path, i).text, "`%.80s` is not accepted, expected %s",
					  texts->item[i], expected);
	}
}

static void finish_condition(struct weft_decode *decode, struct weft_policy_condition *item, const char *path)
{
	struct weft_path list[] = { weft_path("%s.values", path), weft_path("%s.notValues", path) };
	const struct weft_strings *texts[] = { &item->values, &item->not_values };
	struct weft_cidrs *to_cidrs[] = { &item->cidrs, &item->not_cidrs };
	struct weft_ports *to_ports[] = { &item->ports, &item->not_ports };

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(keys); i++)
		if (strcmp(item->name, keys[i].name) == 0)
			item->key = keys[i].key;
	if (*item->name && item->key == WEFT_POLICY_KEY_BEYOND)
		weft_decode_notice(decode, weft_path("%s.key", path).text, "`%.80s` " BEYOND, item->name);
	if (!item->values.count && !item->not_values.count)
		weft_decode_error(decode, path, "give at least one of values and notValues");
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(list); i++) {
		if (item->key == WEFT_POLICY_KEY_SOURCE_IP)
			take_cidrs(decode, list[i].text, texts[i], to_cidrs[i]);
		else if (item->key == WEFT_POLICY_KEY_DESTINATION_PORT)
			take_ports(decode, list[i].text, texts[i], to_ports[i]);
		else if (item->key != WEFT_POLICY_KEY_BEYOND)
			check_texts(decode, list[i].text, texts[i],
				    item->key == WEFT_POLICY_KEY_SOURCE_SERVICE_ACCOUNT ? check_account : check_pattern);
	}
}

static bool is_empty_source(const struct weft_policy_source_match *item)
{
	return !item->principals.count && !item->not_principals.count && !item->namespaces.count &&
	       !item->not_namespaces.count && !item->service_accounts.count && !item->not_service_accounts.count &&
	       !item->trust_domains.count && !item->not_trust_domains.count && !item->ip_blocks.count &&
	       !item->not_ip_blocks.count && !*item->beyond;
}

/* Istio refuses empty lists and sources; of what got by, some of its parts make "everybody" and others "nobody". */
static void refuse_empty(struct weft_decode *decode, const char *rule_path, const char *key, size_t count)
{
	struct weft_path path = weft_path("%s.%s", rule_path, key);
	const struct weft_yaml *node = weft_yaml_get(decode->root, "spec");
	size_t index = strtoul(strchr(rule_path, '[') + 1, NULL, 10);

	node = node ? weft_yaml_get(node, "rules") : NULL;
	node = node ? weft_yaml_at(node, index) : NULL;
	node = node && node->type == WEFT_YAML_MAPPING ? weft_yaml_get(node, key) : NULL;
	if (node && !count && node->type == WEFT_YAML_SEQUENCE)
		weft_decode_error(decode, path.text, "this list is empty; take it out if it is to ask for nothing");
}

static void finish_rule(struct weft_decode *decode, const struct weft_policy_rule *item, const char *path)
{
	refuse_empty(decode, path, "from", item->from_count);
	refuse_empty(decode, path, "to", item->to_count);
	refuse_empty(decode, path, "when", item->when_count);
	for (size_t i = 0; i < item->from_count; i++)
		if (is_empty_source(&item->from[i]))
			weft_decode_error(decode, weft_path("%s.from[%zu].source", path, i).text,
					  "give it at least one field; a rule for everybody has no `from`");
	for (size_t i = 0; i < item->to_count; i++)
		if (!item->to[i].ports.count && !item->to[i].not_ports.count && !*item->to[i].beyond)
			weft_decode_error(decode, weft_path("%s.to[%zu].operation", path, i).text,
					  "give it at least one field; a rule for every port has no `to`");
	for (size_t i = 0; i < item->when_count; i++)
		finish_condition(decode, (struct weft_policy_condition *)&item->when[i],
				 weft_path("%s.when[%zu]", path, i).text);
}

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	struct document *document = document_;
	const char *dry_run = weft_pairs_get(&resource->meta.annotations, WEFT_ANNOTATION_DRY_RUN);
	size_t clauses = 0;

	for (size_t i = 0; i < document->policy.rule_count; i++) {
		const struct weft_policy_rule *item = &document->policy.rule[i];

		finish_rule(decode, item, weft_path("spec.rules[%zu]", i).text);
		clauses += (item->from_count ? item->from_count : 1) * (item->to_count ? item->to_count : 1);
	}
	if (clauses > WEFT_POLICY_CLAUSES_OF_ONE)
		weft_decode_error(decode, "spec.rules",
				  "%zu combinations of `from` and `to` are too many, the kernel takes %d of one policy: put what is "
				  "alike into one list, or split the policy by workload",
				  clauses, WEFT_POLICY_CLAUSES_OF_ONE);
	if (dry_run && strcmp(dry_run, "true") != 0 && strcmp(dry_run, "false") != 0)
		weft_decode_error(decode, "metadata.annotations[" WEFT_ANNOTATION_DRY_RUN "]",
				  "`%.80s` is not accepted, expected \"true\" or \"false\"", dry_run);
	document->policy.dry_run = dry_run && strcmp(dry_run, "true") == 0;
	resource->authorization_policy = document->policy;
	return true;
}

/* ---- canonical form ---- */

static void print_ports(struct weft_print *print, const char *key, const struct weft_ports *list)
{
	if (!list->count)
		return;
	weft_print_open(print, key);
	for (size_t i = 0; i < list->count; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%u", list->item[i]);
		weft_print_item(print, text);
	}
	weft_print_close(print);
}

/* That it was there, and not what was in it. */
static void print_beyond(struct weft_print *print, const char *key)
{
	if (!*key)
		return;
	weft_print_open(print, key);
	weft_print_item(print, "*");
	weft_print_close(print);
}

static void print_source(struct weft_print *print, const struct weft_policy_source_match *item)
{
	weft_print_open_item(print);
	weft_print_open(print, "source");
	weft_print_strings(print, "principals", &item->principals);
	weft_print_strings(print, "notPrincipals", &item->not_principals);
	weft_print_strings(print, "namespaces", &item->namespaces);
	weft_print_strings(print, "notNamespaces", &item->not_namespaces);
	weft_print_strings(print, "serviceAccounts", &item->service_accounts);
	weft_print_strings(print, "notServiceAccounts", &item->not_service_accounts);
	weft_print_strings(print, "trustDomains", &item->trust_domains);
	weft_print_strings(print, "notTrustDomains", &item->not_trust_domains);
	weft_print_cidrs(print, "ipBlocks", &item->ip_blocks);
	weft_print_cidrs(print, "notIpBlocks", &item->not_ip_blocks);
	print_beyond(print, item->beyond);
	weft_print_close(print);
	weft_print_close(print);
}

static void print_operation(struct weft_print *print, const struct weft_policy_operation *item)
{
	weft_print_open_item(print);
	weft_print_open(print, "operation");
	print_ports(print, "ports", &item->ports);
	print_ports(print, "notPorts", &item->not_ports);
	print_beyond(print, item->beyond);
	weft_print_close(print);
	weft_print_close(print);
}

static void print_condition(struct weft_print *print, const struct weft_policy_condition *item)
{
	weft_print_open_item(print);
	weft_print_string(print, "key", item->name);
	weft_print_strings(print, "values", &item->values);
	weft_print_strings(print, "notValues", &item->not_values);
	weft_print_close(print);
}

static void print_rule(struct weft_print *print, const struct weft_policy_rule *item)
{
	weft_print_open_item(print);
	if (item->from_count) {
		weft_print_open(print, "from");
		for (size_t i = 0; i < item->from_count; i++)
			print_source(print, &item->from[i]);
		weft_print_close(print);
	}
	if (item->to_count) {
		weft_print_open(print, "to");
		for (size_t i = 0; i < item->to_count; i++)
			print_operation(print, &item->to[i]);
		weft_print_close(print);
	}
	if (item->when_count) {
		weft_print_open(print, "when");
		for (size_t i = 0; i < item->when_count; i++)
			print_condition(print, &item->when[i]);
		weft_print_close(print);
	}
	weft_print_close(print);
}

static void print_policy(struct weft_print *print, const struct weft_resource *resource)
{
	const struct weft_authorization_policy *policy = &resource->authorization_policy;

	weft_print_open(print, "spec");
	weft_print_workload_selector(print, &policy->selector);
	weft_print_string(print, "action", policy->action == WEFT_POLICY_DENY ? "DENY" : "ALLOW");
	if (policy->rule_count) {
		weft_print_open(print, "rules");
		for (size_t i = 0; i < policy->rule_count; i++)
			print_rule(print, &policy->rule[i]);
		weft_print_close(print);
	}
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_authorization_policy = {
	.kind = WEFT_KIND_AUTHORIZATION_POLICY,
	.size = WEFT_RESOURCE_SIZE(authorization_policy),
	.name = "AuthorizationPolicy",
	.versions = WEFT_WORDS("security.istio.io/v1", "security.istio.io/v1beta1"),
	.namespaced = true,
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_policy,
};
