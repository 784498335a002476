/* SPDX-License-Identifier: Apache-2.0 */
/* networking.istio.io DestinationRule: how endpoints are chosen, of a host and of its ports. */
#include "conf/kind.h"

#include <string.h>

struct document {
	struct weft_meta meta;
	struct weft_destination_rule rule;
};

#define NOT_YET "connectionPool", "outlierDetection", "tls"
#define BALANCER_NOT_YET "consistentHash", "localityLbSetting", "zoneAwareLbSetting", "warmupDurationSecs", "warmup"

static const struct weft_field balancer_fields[] = { { "simple", &weft_type_simple_lb, 0, false } };
static const struct weft_table balancer_table = { WEFT_FIELDS(balancer_fields), .notice = WEFT_WORDS(BALANCER_NOT_YET) };
static const struct weft_type balancer = { .id = WEFT_TYPE_OBJECT, .table = &balancer_table };

static const struct weft_field number_fields[] = {
	WEFT_FIELD_REQUIRED("number", weft_type_port, struct weft_port_lb, port),
};
static const struct weft_table number_table = { WEFT_FIELDS(number_fields) };
static const struct weft_type number = { .id = WEFT_TYPE_OBJECT, .table = &number_table };
static const struct weft_port_lb level_initial = { 0 };
static const struct weft_field level_fields[] = {
	{ "port", &number, 0, true },
	WEFT_FIELD("loadBalancer", balancer, struct weft_port_lb, simple),
};
static const struct weft_table level_table = {
	WEFT_FIELDS(level_fields),
	.notice = WEFT_WORDS(NOT_YET),
	.initial = &level_initial,
	.size = sizeof(struct weft_port_lb),
};
static const struct weft_type level = { .id = WEFT_TYPE_OBJECT, .size = sizeof(struct weft_port_lb), .table = &level_table };
/* Istio takes 4096 too; each is compared with each. */
static const struct weft_type levels = { .id = WEFT_TYPE_LIST, .element = &level, .max = 4096 };

static const struct weft_field policy_fields[] = {
	WEFT_FIELD("loadBalancer", balancer, struct document, rule.simple),
	WEFT_FIELD_LIST("portLevelSettings", levels, struct document, rule.port_level, rule.port_level_count),
};
static const struct weft_table policy_table = {
	WEFT_FIELDS(policy_fields), .notice = WEFT_WORDS(NOT_YET, "tunnel", "proxyProtocol", "retryBudget")
};
static const struct weft_type policy = { .id = WEFT_TYPE_OBJECT, .table = &policy_table };

static const struct weft_field spec_fields[] = {
	WEFT_FIELD_REQUIRED("host", weft_type_string, struct document, rule.host),
	{ "trafficPolicy", &policy, 0, false },
};
static const struct weft_table spec_table = {
	WEFT_FIELDS(spec_fields), .notice = WEFT_WORDS("subsets", "exportTo", "workloadSelector")
};
static const struct weft_type spec = { .id = WEFT_TYPE_OBJECT, .table = &spec_table };

static const struct document initial = { .meta = WEFT_META_INITIAL, .rule = { .host = "" } };
static const struct weft_field fields[] = { WEFT_KIND_TOP(struct document), { "spec", &spec, 0, true } };
static const struct weft_table table = {
	WEFT_FIELDS(fields),
	.silent = WEFT_WORDS("apiVersion", "kind", "status"),
	.initial = &initial,
	.size = sizeof(struct document),
};

static bool finish(struct weft_decode *decode, void *document_, struct weft_resource *resource)
{
	struct document *document = document_;
	const struct weft_port_lb *given = document->rule.port_level;
	const char *host = document->rule.host;
	const char *name = strncmp(host, "*.", 2) == 0 ? host + 2 : host;
	const char *expected = *host && strcmp(host, "*") != 0 ? weft_check_subdomain(name) : NULL;

	if (expected)
		weft_decode_error(decode, "spec.host", "`%.80s` is not accepted, expected %s", host, expected);
	for (size_t i = 0; i < document->rule.port_level_count; i++)
		for (size_t j = 0; j < i; j++)
			if (given[i].port && given[i].port == given[j].port) {
				weft_decode_error(decode,
						  weft_path("spec.trafficPolicy.portLevelSettings[%zu].port.number", i).text,
						  "port %u is also that of portLevelSettings[%zu]; keep one of them",
						  given[i].port, j);
				break;
			}
	resource->destination_rule = document->rule;
	return true;
}

static const char *simple_word(enum weft_simple_lb simple)
{
	for (const struct weft_word *word = weft_type_simple_lb.words; word->word; word++)
		if (word->value == (int)simple)
			return word->word;
	return "";
}

static void print_balancer(struct weft_print *print, enum weft_simple_lb simple)
{
	weft_print_open(print, "loadBalancer");
	weft_print_string(print, "simple", simple_word(simple));
	weft_print_close(print);
}

static void print_rule(struct weft_print *print, const struct weft_resource *resource)
{
	const struct weft_destination_rule *rule = &resource->destination_rule;

	weft_print_open(print, "spec");
	weft_print_string(print, "host", rule->host);
	weft_print_open(print, "trafficPolicy");
	print_balancer(print, rule->simple);
	if (rule->port_level_count) {
		weft_print_open(print, "portLevelSettings");
		for (size_t i = 0; i < rule->port_level_count; i++) {
			weft_print_open_item(print);
			weft_print_open(print, "port");
			weft_print_uint(print, "number", rule->port_level[i].port);
			weft_print_close(print);
			print_balancer(print, rule->port_level[i].simple);
			weft_print_close(print);
		}
		weft_print_close(print);
	}
	weft_print_close(print);
	weft_print_close(print);
}

const struct weft_kind_ops weft_kind_destination_rule = {
	.kind = WEFT_KIND_DESTINATION_RULE,
	.size = WEFT_RESOURCE_SIZE(destination_rule),
	.name = "DestinationRule",
	.versions = WEFT_WORDS("networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"),
	.namespaced = true,
	.check_name = weft_check_subdomain,
	.table = &table,
	.finish = finish,
	.print = print_rule,
};
