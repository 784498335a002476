/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever asks: the CLI on weft.sock (docs/CONTROL.md), Prometheus on /metrics, watchers of connections. */
#include "agent/control.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/batch.h"
#include "base/log.h"
#include "kernel/cgroup.h"
#include "kernel/kernel.h"
#include "version.h"
#include "weft/abi/counter.h"

#define METRICS_FRESH_NS 1000000000ull /* scrapers that come more often get the same text: they cannot load main */

/* ---- answers ---- */

static bool add(struct json_object *object, const char *key, struct json_object *value)
{
	return json_object_object_add(object, key, value) == 0;
}

static struct json_object *text_of(const char *text)
{
	return json_object_new_string(text ? text : "");
}

static struct json_object *number_of(uint64_t number)
{
	return json_object_new_uint64(number);
}

static struct json_object *flag_of(bool flag)
{
	return json_object_new_boolean(flag);
}

static struct json_object *instance(const struct weft_control *control)
{
	const struct weft_options *options = control->options;
	struct json_object *object = json_object_new_object();
	char cgroup[PATH_MAX], metrics[WEFT_ADDR_TEXT] = "off", why[160];
	const char *where = options->cgroup;

	if (!where)
		where = weft_cgroup_mount(cgroup, sizeof(cgroup)) == 0 ? cgroup : "";
	if (options->metrics)
		weft_addr_port_format(&options->metrics_addr, options->metrics_port, metrics);
	add(object, "config", text_of(options->config));
	add(object, "cgroup", text_of(where));
	add(object, "pins", text_of(options->pins));
	add(object, "state", text_of(options->state));
	add(object, "run", text_of(options->run));
	add(object, "metrics", text_of(metrics));
	if (control->metrics_error) {
		errno = -control->metrics_error;
		snprintf(why, sizeof(why), "cannot listen there for metrics, trying again: %m");
		add(object, "metrics_error", text_of(why));
	}
	return object;
}

static struct json_object *roles(const struct weft_control *control)
{
	struct json_object *list = json_object_new_array();

	for (unsigned int i = WEFT_AGENT_INIT; i < WEFT_AGENT_PROCESSES; i++) {
		const struct weft_init_role *role = &control->roles[i];
		struct json_object *object;
		char proxy[16];

		if (role->since_ns == 0 && i > WEFT_AGENT_CONTROL)
			continue; /* not wanted so far */
		object = json_object_new_object();
		snprintf(proxy, sizeof(proxy), "proxy-%u", i - WEFT_AGENT_PROXY);
		add(object, "role", text_of(i < WEFT_AGENT_PROXY ? weft_agent_role_name((enum weft_agent_role)i) : proxy));
		add(object, "pid", json_object_new_int(role->pid));
		add(object, "restarts", number_of(role->restarts));
		add(object, "since", number_of(role->since_ns / 1000000000));
		json_object_array_add(list, object);
	}
	return list;
}

struct tally {
	uint64_t errors;
	uint64_t notices;
};

static void count_problem(void *context, const struct weft_problem *problem)
{
	struct tally *tally = context;

	if (problem->severity == WEFT_SEVERITY_ERROR)
		tally->errors++;
	else
		tally->notices++;
}

static void answer_status(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer = json_object_new_object(), *status = json_object_new_object();
	struct json_object *config = json_object_new_object();
	uint64_t services = 0, workloads = 0, endpoints = 0;
	struct tally tally = { 0 };

	(void)request;
	weft_control_problems(control, count_problem, &tally);
	if (control->model) {
		services = weft_model_services(control->model);
		workloads = weft_model_workloads(control->model);
		endpoints = weft_model_endpoints(control->model);
	}
	add(status, "version", text_of(WEFT_VERSION));
	add(status, "node", text_of(control->options->node));
	add(status, "ready", flag_of(control->ready && control->greeted));
	add(status, "adopted", flag_of(control->adopted));
	add(status, "bypass", flag_of(control->bypass));
	add(status, "instance", instance(control));
	add(status, "roles", roles(control));
	add(config, "resources", number_of(weft_source_count(control->source)));
	add(config, "refused", number_of(tally.errors));
	add(config, "notices", number_of(tally.notices));
	add(config, "generation", number_of(control->generation));
	add(config, "applied_ns", number_of(control->applied_ns));
	add(status, "config", config);
	add(status, "services", number_of(services));
	add(status, "endpoints", number_of(endpoints));
	add(status, "workloads", number_of(workloads));
	add(status, "watchers", number_of(weft_server_watchers(control->server)));
	add(answer, "status", status);
	weft_server_reply(client, answer);
}

static void list_resource(void *context, const struct weft_source_entry *entry)
{
	struct json_object *object = json_object_new_object();

	add(object, "kind", text_of(weft_kind_name(entry->kind)));
	add(object, "namespace", text_of(entry->namespace));
	add(object, "name", text_of(entry->name));
	add(object, "file", text_of(entry->file));
	add(object, "line", number_of(entry->line));
	add(object, "state", text_of(entry->last_good ? "last good" : "in force"));
	json_object_array_add(context, object);
}

static void answer_list(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer = json_object_new_object(), *list = json_object_new_array();

	(void)request;
	weft_source_entries(control->source, list_resource, list);
	add(answer, "resources", list);
	weft_server_reply(client, answer);
}

static void answer_problems(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer = json_object_new_object(), *list = json_object_new_array();

	(void)request;
	weft_control_problems(control, weft_problem_to_json, list);
	add(answer, "problems", list);
	weft_server_reply(client, answer);
}

static void answer_features(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer, *list;

	(void)request;
	if (!control->model) {
		weft_server_refuse(client, "main has not said yet what this kernel can do: ask again in a moment");
		return;
	}
	answer = json_object_new_object();
	list = json_object_new_array();
	for (enum weft_feature feature = 0; feature < WEFT_FEATURE_MAX_; feature++) {
		struct json_object *object = json_object_new_object();

		add(object, "name", text_of(weft_feature_name(feature)));
		add(object, "there", flag_of(control->features >> feature & 1));
		add(object, "forced", flag_of(control->forced >> feature & 1));
		json_object_array_add(list, object);
	}
	add(answer, "features", list);
	weft_server_reply(client, answer);
}

static void answer_level(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer = json_object_new_object();

	(void)control;
	(void)request;
	add(answer, "level", text_of(weft_log_level_name(weft_log_level())));
	weft_server_reply(client, answer);
}

static void set_level(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct weft_role_message message = weft_role_message(WEFT_ROLE_LOG_LEVEL, 0);
	const char *name = json_object_get_string(json_object_object_get(request, "level"));
	enum weft_log_level level;
	struct weft_err err;
	int r;

	if (weft_log_level_parse(name, &level) < 0) {
		weft_server_refuse(client, "there is no log level %.40s: error, warning, info and debug are there", name);
		return;
	}
	weft_log_set_level(level);
	weft_control_secure_log_level(control);
	message.arg[0] = level;
	r = weft_control_ask(control, &message, NULL, &err);
	if (r < 0 && control->greeted) { /* else main is told when it is back */
		weft_server_refuse(client, "%s", err.text);
		return;
	}
	answer_level(control, client, request);
}

static void set_bypass(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	bool before = control->bypass;
	struct json_object *answer;
	struct weft_err err = { "" };

	if (!control->greeted) {
		weft_server_refuse(client, "main is restarting: ask again in a moment");
		return;
	}
	if (weft_control_late(control)) {
		weft_server_refuse(client, "main does not answer: ask again in a moment");
		return;
	}
	control->bypass = json_object_get_boolean(json_object_object_get(request, "on"));
	if (weft_control_send_flags(control, &err) < 0) {
		control->bypass = before;
		weft_server_refuse(client, "%s", err.text);
		return;
	}
	if (before != control->bypass)
		weft_warning("bypass is %s: new connections %s", control->bypass ? "on" : "off",
			     control->bypass ? "go where the application says" : "are translated again");
	answer = json_object_new_object();
	add(answer, "bypass", flag_of(control->bypass));
	weft_server_reply(client, answer);
}

static void answer_identities(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer = json_object_new_object();

	(void)request;
	add(answer, "identities", weft_control_identities_json(control));
	weft_server_reply(client, answer);
}

static int add_policy_info(void *context, const struct weft_policy_info *policy)
{
	struct json_object *object = json_object_new_object();
	weft_buf_done_on_exit struct weft_buf rules = WEFT_BUF_INIT;
	int r = weft_policy_words(policy->resource, &rules);

	add(object, "policy", text_of(policy->name));
	add(object, "action", text_of(policy->action));
	add(object, "scope", text_of(policy->scope));
	add(object, "dry_run", flag_of(policy->dry_run));
	add(object, "state", text_of(policy->beyond ? "does not fit" : policy->workloads ? "in force" : "unused"));
	add(object, "workloads", number_of(policy->workloads));
	add(object, "combinations", number_of(policy->clauses));
	add(object, "rules", text_of(r == 0 && rules.data ? rules.data : ""));
	json_object_array_add(context, object);
	return r;
}

static void answer_policies(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer = json_object_new_object(), *list = json_object_new_array();

	(void)request;
	if (control->model)
		weft_model_policies(control->model, add_policy_info, list);
	add(answer, "policies", list);
	weft_server_reply(client, answer);
}

static void answer_judge(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	const char *from = json_object_get_string(json_object_object_get(request, "from"));
	const char *to = json_object_get_string(json_object_object_get(request, "to"));
	struct json_object *answer = json_object_new_object();
	struct weft_err err = { "" };

	if (weft_control_judge_json(control, from, to, answer, &err) == 0) {
		weft_server_reply(client, answer);
		return;
	}
	json_object_put(answer);
	weft_server_refuse(client, "%s", err.text);
}

static void answer_secure_conns(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer = json_object_new_object();

	(void)request;
	add(answer, "connections", weft_control_secure_conns_json(control));
	weft_server_reply(client, answer);
}

static void answer_attached(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	struct json_object *answer = json_object_new_object();

	(void)request;
	add(answer, "workloads", weft_control_attach_json(control));
	weft_server_reply(client, answer);
}

static void change_attached(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	const char *who = json_object_get_string(json_object_object_get(request, "workload"));
	const char *netns = json_object_get_string(json_object_object_get(request, "netns"));
	struct weft_err err = { "" };
	struct json_object *answer;
	int r;

	if (!control->greeted || weft_control_late(control)) {
		weft_server_refuse(client, control->greeted ? "main does not answer: ask again in a moment"
							    : "main is restarting: ask again in a moment");
		return;
	}
	r = netns ? weft_control_attach_named(control, who, netns, &err) : weft_control_detach_named(control, who, &err);
	if (r < 0) {
		weft_server_refuse(client, "%s", err.text);
		return;
	}
	answer = json_object_new_object();
	add(answer, "workload", text_of(who));
	if (netns)
		add(answer, "netns", text_of(netns));
	add(answer, "attached", flag_of(netns));
	weft_server_reply(client, answer);
}

static void begin_watch(struct weft_control *control, struct weft_server_client *client, struct json_object *request)
{
	(void)control;
	(void)request;
	weft_server_watch(client);
}

/* docs/CONTROL.md's table of requests. */
static const struct request {
	const char *name;
	const char *member; /* beside `request`; required */
	enum json_type type;
	void (*answer)(struct weft_control *control, struct weft_server_client *client, struct json_object *request);
	const char *second; /* another member, a string; required */
} requests[] = {
	{ "status", NULL, json_type_null, answer_status },
	{ "config.list", NULL, json_type_null, answer_list },
	{ "config.problems", NULL, json_type_null, answer_problems },
	{ "feature.list", NULL, json_type_null, answer_features },
	{ "log.get", NULL, json_type_null, answer_level },
	{ "log.set", "level", json_type_string, set_level },
	{ "bypass.set", "on", json_type_boolean, set_bypass },
	{ "conn.watch", NULL, json_type_null, begin_watch },
	{ "conn.secure", NULL, json_type_null, answer_secure_conns },
	{ "identity.list", NULL, json_type_null, answer_identities },
	{ "policy.list", NULL, json_type_null, answer_policies },
	{ "policy.judge", "from", json_type_string, answer_judge, "to" },
	{ "workload.attached", NULL, json_type_null, answer_attached },
	{ "workload.attach", "workload", json_type_string, change_attached, "netns" },
	{ "workload.detach", "workload", json_type_string, change_attached },
};

static void on_request(void *context, struct weft_server_client *client, struct json_object *request)
{
	const char *name = json_object_get_string(json_object_object_get(request, "request"));
	const struct request *found = NULL;
	struct json_object *value;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(requests) && !found; i++)
		if (strcmp(requests[i].name, name) == 0)
			found = &requests[i];
	if (!found) {
		weft_server_refuse(client, "there is no request `%.40s` in this version", name);
		return;
	}
	json_object_object_foreach(request, key, ignored)
	{
		(void)ignored;
		if (strcmp(key, "request") != 0 && (!found->member || strcmp(key, found->member) != 0) &&
		    (!found->second || strcmp(key, found->second) != 0)) {
			weft_server_refuse(client, "`%s` has no member `%.40s`", name, key);
			return;
		}
	}
	if (found->member &&
	    (!json_object_object_get_ex(request, found->member, &value) || !json_object_is_type(value, found->type))) {
		weft_server_refuse(client, "`%s` needs a %s `%s`", name, json_type_to_name(found->type), found->member);
		return;
	}
	if (found->second && (!json_object_object_get_ex(request, found->second, &value) || !json_object_is_type(value, json_type_string))) {
		weft_server_refuse(client, "`%s` needs a string `%s`", name, found->second);
		return;
	}
	found->answer(context, client, request);
}

/* ---- watchers ---- */

/* An answer may be found in the middle of weft_http_run(). */
static void run_http_soon(struct weft_control *control)
{
	sd_event_source_set_time_relative(control->http_due, 0);
	sd_event_source_set_enabled(control->http_due, SD_EVENT_ONESHOT);
}

static const char *outcome_name(uint8_t outcome)
{
	static const char *const names[] = {
		[WEFT_OUTCOME_OPEN] = "open",		[WEFT_OUTCOME_CLOSED] = "closed",	[WEFT_OUTCOME_RESET] = "reset",
		[WEFT_OUTCOME_REFUSED] = "refused",	[WEFT_OUTCOME_TIMED_OUT] = "timed_out", [WEFT_OUTCOME_ABANDONED] = "abandoned",
	};

	_Static_assert(WEFT_ARRAY_SIZE(names) == WEFT_OUTCOME_MAX_, "an outcome has no name");
	return outcome < WEFT_ARRAY_SIZE(names) ? names[outcome] : "";
}

static const char *reason_name(uint8_t reason)
{
	static const char *const names[] = {
#define WEFT_COUNTER(NAME, name, kind, sentence) name,
#include "weft/lists/counter.h"
#undef WEFT_COUNTER
	};

	return reason < WEFT_ARRAY_SIZE(names) ? names[reason] : "";
}

static const char *type_name(uint8_t type)
{
	static const char *const names[] = {
		[WEFT_EVENT_OPENED] = "opened", [WEFT_EVENT_ENDED] = "ended", [WEFT_EVENT_REFUSED] = "refused"
	};

	_Static_assert(WEFT_ARRAY_SIZE(names) == WEFT_EVENT_TYPE_MAX_, "a type of record has no name");
	return type < WEFT_ARRAY_SIZE(names) && names[type] ? names[type] : "";
}

/* Nothing in it can need escaping: numbers, addresses and words of ours. */
static int print_record(const struct weft_event *event, struct weft_buf *out)
{
	bool client = event->role != WEFT_ROLE_SERVER;
	char local[WEFT_ADDR_TEXT], remote[WEFT_ADDR_TEXT], frontend[WEFT_ADDR_TEXT] = "";

	weft_addr_port_format(&event->local, ntohs(event->local_port), local);
	weft_addr_port_format(&event->remote, ntohs(event->remote_port), remote);
	if (event->frontend_port || !weft_addr_is_any(&event->frontend))
		weft_addr_port_format(&event->frontend, ntohs(event->frontend_port), frontend);
	return weft_buf_printf(
		out,
		"{\"time_ns\":%" PRIu64 ",\"type\":\"%s\",\"outcome\":\"%s\",\"reason\":\"%s\",\"protocol\":\"%s\",\"reporter\":\"%s\","
		"\"local\":\"%s\",\"remote\":\"%s\",\"frontend\":\"%s\",\"service\":%u,\"source\":%u,\"destination\":%u,\"endpoint\":%u,"
		"\"srtt_us\":%u,\"min_rtt_us\":%u,\"retransmits\":%u,\"sent\":%" PRIu64 ",\"received\":%" PRIu64
		",\"connect_ns\":%" PRIu64 ",\"duration_ns\":%" PRIu64 ",\"cookie\":%" PRIu64 ",\"netns\":%" PRIu64 "}",
		(uint64_t)event->time_ns, type_name(event->type), event->type == WEFT_EVENT_ENDED ? outcome_name(event->outcome) : "",
		event->type == WEFT_EVENT_REFUSED ? reason_name(event->outcome) : "", event->protocol == IPPROTO_UDP ? "udp" : "tcp",
		client ? "source" : "destination", local, remote, frontend, event->service, client ? event->workload : event->peer,
		client ? event->peer : event->workload, event->endpoint, event->srtt_us, event->min_rtt_us, event->retransmits,
		(uint64_t)event->sent, (uint64_t)event->received, (uint64_t)event->connect_ns, (uint64_t)event->duration_ns,
		(uint64_t)event->cookie, (uint64_t)event->netns);
}

void weft_control_records(void *context, const struct weft_event *records, size_t count, uint64_t lost)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	struct weft_control *control = context;
	int r = weft_buf_add(&text, "[", 1);

	control->relay_lost += lost;
	for (size_t i = 0; i < count && r == 0; i++) {
		if (i)
			r = weft_buf_add(&text, ",", 1);
		if (r == 0)
			r = print_record(&records[i], &text);
	}
	if (r == 0)
		r = weft_buf_add(&text, "]", 1);
	if (r < 0)
		weft_server_publish(control->server, "[]", 0, lost + count);
	else
		weft_server_publish(control->server, text.data, count, lost);
}

static void on_watchers_told(void *context, int r, const struct weft_link_bulk *bulk)
{
	struct weft_control *control = context;

	(void)bulk;
	control->watchers_asked = false;
	if (r < 0)
		weft_warning("main could not take the number of watchers: they see nothing");
	else if (control->watchers_told != weft_server_watchers(control->server))
		weft_control_send_watchers(control);
}

void weft_control_send_watchers(struct weft_control *control)
{
	struct weft_role_message request = weft_role_message(WEFT_ROLE_WATCH, 0);
	struct weft_err err;

	if (!control->greeted || control->watchers_asked)
		return; /* main is told when it is back, or has answered */
	control->watchers_told = weft_server_watchers(control->server);
	request.arg[0] = control->watchers_told;
	if (weft_control_ask(control, &request, on_watchers_told, &err) == 0)
		control->watchers_asked = true;
	else if (control->greeted)
		weft_warning("%s: watchers see nothing", err.text);
}

void weft_control_serve_late(struct weft_control *control, const char *sentence)
{
	if (!control->link.asked_count)
		control->watchers_asked = control->metrics_asked = false;
	if (control->http) {
		weft_http_fail(control->http, sentence);
		run_http_soon(control);
	}
}

static void on_watchers(void *context, unsigned int count)
{
	struct weft_control *control = context;

	(void)count;
	sd_event_source_set_enabled(control->watchers_changed, SD_EVENT_ONESHOT);
}

static int on_watchers_changed(sd_event_source *source, void *context)
{
	(void)source;
	weft_control_send_watchers(context);
	return 0;
}

/* ---- metrics ---- */

static int print_metrics(struct weft_control *control, const struct weft_link_bulk *batch, struct weft_err *err)
{
	weft_cleanup(weft_buf_done) struct weft_buf text = WEFT_BUF_INIT;
	struct weft_metrics_role shown[WEFT_AGENT_MAX_ - 1];
	struct tally tally = { 0 };
	weft_buf_done_on_exit struct weft_buf expiries = WEFT_BUF_INIT;
	struct weft_metrics_facts facts;
	uint64_t counts[32] = { 0 };
	int r;

	r = weft_control_secure_metrics(control, &expiries, counts);
	if (r < 0)
		return weft_err_set(err, r, "out of memory");
	for (enum weft_agent_role role = WEFT_AGENT_MAIN; role < WEFT_AGENT_MAX_; role++)
		shown[role - 1] = (struct weft_metrics_role){ weft_agent_role_name(role), control->roles[role].restarts };
	for (size_t i = WEFT_AGENT_PROXY + 1; i < WEFT_AGENT_PROCESSES; i++)
		shown[WEFT_AGENT_PROXY - 1].restarts += control->roles[i].restarts;
	weft_control_problems(control, count_problem, &tally);
	facts = (struct weft_metrics_facts){
		.version = WEFT_VERSION,
		.node = control->options->node,
		.trust_domain = weft_model_mesh(control->model)->trust_domain,
		.resources = weft_source_count(control->source),
		.refused = tally.errors,
		.notices = tally.notices,
		.applied = control->generation,
		.apply_failures = control->apply_failures,
		.apply_ns = control->apply_ns,
		.applied_unix_s = control->applied_ns / 1000000000,
		.counters_unix_s = control->counters_unix_s,
		.watchers = weft_server_watchers(control->server),
		.stage_lost = { [WEFT_METRICS_STAGE_RELAY] = control->relay_lost,
				[WEFT_METRICS_STAGE_CLIENT] = weft_server_lost(control->server) },
		.features = control->features,
		.capacity = control->capacity,
		.roles = shown,
		.role_count = WEFT_ARRAY_SIZE(shown),
		.identities = (const struct weft_metrics_identity *)(const void *)expiries.data,
		.identity_count = expiries.size / sizeof(struct weft_metrics_identity),
		.proxy_counts = counts,
	};
	r = weft_metrics_print(batch->data, batch->size, weft_model_names(control->model), &facts, &text, err);
	if (r < 0)
		return r;
	weft_buf_done(&control->metrics);
	control->metrics = text;
	text = WEFT_BUF_INIT;
	control->metrics_ns = weft_control_now(CLOCK_MONOTONIC);
	return 0;
}

static void answer_metrics(struct weft_control *control)
{
	struct weft_buf copy = WEFT_BUF_INIT;

	if (weft_buf_add(&copy, control->metrics.data, control->metrics.size) < 0)
		weft_http_fail(control->http, "out of memory");
	else
		weft_http_answer(control->http, &copy);
}

static void on_flushed(void *context, int r, const struct weft_link_bulk *bulk)
{
	struct weft_control *control = context;

	(void)bulk;
	control->flush_error = r;
}

static void on_read(void *context, int r, const struct weft_link_bulk *bulk)
{
	struct weft_control *control = context;
	struct weft_err err = { "" };

	control->metrics_asked = false;
	if (r == 0)
		r = control->flush_error;
	if (r < 0) {
		errno = -r;
		weft_err_set(&err, -r, "main could not read the maps: %m");
	} else {
		r = print_metrics(control, bulk, &err);
	}
	if (r < 0)
		weft_http_fail(control->http, err.text);
	else
		answer_metrics(control);
	run_http_soon(control);
}

static int ask_for_metrics(struct weft_control *control, struct weft_err *err)
{
	struct weft_role_message flush = weft_role_message(WEFT_ROLE_FLUSH, 0), read = weft_role_message(WEFT_ROLE_READ, 0);
	int r;

	if (!control->greeted)
		return weft_err_set(err, ENOTCONN, "main is restarting: ask again in a moment");
	if (control->metrics_asked || weft_control_late(control))
		return weft_err_set(err, EBUSY, "main does not answer: ask again in a moment");
	/* The other maps only to show how full they are; not TURN, an array that is always full. */
	read.arg[0] = ((1ull << WEFT_MAP_MAX_) - 1) & ~(1ull << WEFT_MAP_TURN);
	r = weft_control_ask(control, &flush, on_flushed, err);
	if (r == 0)
		r = weft_control_ask(control, &read, on_read, err);
	control->metrics_asked = r == 0;
	return r;
}

static void on_wanted(void *context)
{
	struct weft_control *control = context;
	struct weft_err err = { "" };

	if (control->metrics.size && weft_control_now(CLOCK_MONOTONIC) - control->metrics_ns < METRICS_FRESH_NS)
		answer_metrics(control);
	else if (ask_for_metrics(control, &err) < 0)
		weft_http_fail(control->http, err.text);
}

static void set_http_due(struct weft_control *control)
{
	int in_ms = weft_http_timeout_ms(control->http);

	if (in_ms >= 0)
		sd_event_source_set_time_relative(control->http_due, (uint64_t)in_ms * 1000);
	sd_event_source_set_enabled(control->http_due, in_ms >= 0 ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static int on_http(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	struct weft_control *control = context;

	(void)source;
	(void)fd;
	(void)revents;
	weft_http_run(control->http);
	set_http_due(control);
	return 0;
}

static int on_http_due(sd_event_source *source, uint64_t usec, void *context)
{
	(void)usec;
	return on_http(source, -1, 0, context);
}

int weft_control_serve_metrics(struct weft_control *control, struct weft_err *err)
{
	struct weft_http_options options = { .fd = control->metrics_listener, .wanted = on_wanted, .context = control };
	int r;

	if (control->metrics_listener < 0 || control->http)
		return 0;
	r = weft_http_new(&options, &control->http, err);
	if (r < 0)
		return r;
	r = sd_event_add_io(control->loop, &control->http_io, weft_http_fd(control->http), EPOLLIN, on_http, control);
	if (r >= 0)
		r = sd_event_add_time(control->loop, &control->http_due, CLOCK_MONOTONIC, 0, 1000, on_http_due, control);
	if (r < 0)
		return weft_err_set(err, r, "cannot serve metrics: %m");
	set_http_due(control);
	return 0;
}

int weft_control_serve_start(struct weft_control *control, struct weft_err *err)
{
	const struct weft_server_handler handler = { .request = on_request, .watchers = on_watchers, .context = control };
	int r = sd_event_add_defer(control->loop, &control->watchers_changed, on_watchers_changed, control);

	if (r >= 0)
		r = sd_event_source_set_enabled(control->watchers_changed, SD_EVENT_OFF);
	if (r >= 0)
		r = weft_server_new(control->loop, WEFT_FD_SOCKET, &handler, &control->server);
	if (r < 0)
		return weft_err_set(err, r, "cannot serve weft.sock: %m");
	return weft_control_serve_metrics(control, err);
}

void weft_control_serve_stop(struct weft_control *control)
{
	weft_server_free(control->server);
	weft_http_free(control->http);
	sd_event_source_disable_unref(control->http_io);
	sd_event_source_disable_unref(control->http_due);
	sd_event_source_disable_unref(control->watchers_changed);
	weft_buf_done(&control->metrics);
}
