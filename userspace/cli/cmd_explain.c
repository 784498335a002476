/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weft explain: the walk of bpf/connect.bpf.c over the same maps, with its
 * reasons said aloud. The order of the steps is the program's; where chance
 * decides there, probabilities stand here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/agent.h"
#include "cli/clock.h"
#include "cli/view.h"
#include "weft/abi/proxy.h"

struct walk {
	struct weft_output *out;
	struct weft_view *view;
	struct weft_err *err;
	const char *from;
	char to[WEFT_ADDR_TEXT];
	struct weft_frontend_key asked;
	struct weft_setting setting;
	uint64_t netns; /* 0: not bound, or the node itself */
	bool bound;
	struct weft_pod pod;
	struct weft_frontend frontend;
	uint32_t kept; /* endpoint id that affinity holds; 0 = none */
	struct weft_view_candidate *candidates;
	double *probabilities;
	size_t candidates_count;
	const struct weft_options *options;
	bool tunnelled; /* through the agent, in mutual TLS */
	bool excepted; /* left alone on purpose: no lane either */
	size_t judged, denied; /* endpoints, by the agent */
	size_t agents; /* of the denied ones, those whose port is the agent's */
};

static void step(struct walk *walk, const char *name, const char *result, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static void step(struct walk *walk, const char *name, const char *result, const char *format, ...)
{
	char text[2 * WEFT_LABEL];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	weft_output_row(walk->out);
	weft_output_text(walk->out, "step", name);
	weft_output_text(walk->out, "result", result);
	weft_output_text(walk->out, "because", text);
	weft_output_row_end(walk->out);
}

/* What a walk ends with. Negative: could not read. */
enum verdict {
	GO_ON,
	PASS,
	REFUSE,
	TRANSLATE,
};

static int get(struct walk *walk, enum weft_map map, const void *key, void *value)
{
	return weft_view_get(walk->view, map, key, value, walk->err);
}

/* Who asks: the binding of the pod's network namespace. */
static int find_pod(struct walk *walk)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	const struct weft_pod *pods;
	uint32_t id;
	size_t count;
	int r;

	if (strcmp(walk->from, "host") == 0)
		return 0;
	r = weft_view_require_workload(walk->view, walk->from, &id, walk->err);
	if (r == 0)
		r = weft_view_all(walk->view, WEFT_MAP_POD, &keys, &values, &count, walk->err);
	if (r < 0)
		return r;
	pods = (const struct weft_pod *)(const void *)values.data;
	for (size_t i = 0; i < count; i++) {
		uint64_t netns;

		memcpy(&netns, keys.data + i * sizeof(netns), sizeof(netns));
		if (pods[i].workload != id || (walk->bound && netns >= walk->netns))
			continue;
		walk->netns = netns;
		walk->pod = pods[i];
		walk->bound = true;
	}
	return 0;
}

static int pass_node_port(struct walk *walk, const struct weft_frontend *address)
{
	struct weft_frontend_key key = { .addr = WEFT_ADDR_ANY_V6, .port = walk->asked.port, .protocol = walk->asked.protocol };
	struct weft_frontend frontend;
	char label[WEFT_LABEL];
	int r;

	if (weft_addr_is_v4(&walk->asked.addr))
		key.addr = (struct weft_addr)WEFT_ADDR_ANY_V4;
	r = get(walk, WEFT_MAP_FRONTEND, &key, &frontend);
	if (r == -ENOENT || (r == 0 && frontend.type != WEFT_FRONTEND_NODE_PORT)) {
		step(walk, "node port", "go on", "no service has node port %u/%s", ntohs(key.port),
		     weft_protocol_name(key.protocol));
		return 0;
	}
	if (r < 0)
		return r;
	weft_view_service(walk->view, frontend.service, label);
	if ((frontend.flags & WEFT_FRONTEND_F_THIS_NODE) && !(address->flags & WEFT_FRONTEND_F_THIS_NODE)) {
		step(walk, "node port", "go on",
		     "%s has it, but with externalTrafficPolicy Local, and this is another node's address", label);
		return 0;
	}
	step(walk, "node port", "found", "node port %u/%s is %s", ntohs(key.port), weft_protocol_name(key.protocol),
	     label);
	walk->frontend = frontend;
	return 1;
}

/* The frontend that answers: GO_ON with it in place, PASS, or REFUSE is left to find_refusal(). */
static int find_frontend(struct walk *walk)
{
	struct weft_frontend_key key = { .addr = walk->asked.addr };
	struct weft_frontend address;
	char label[WEFT_LABEL], text[WEFT_ADDR_TEXT];
	int r = get(walk, WEFT_MAP_FRONTEND, &walk->asked, &walk->frontend);

	if (r == 0 && walk->frontend.type != WEFT_FRONTEND_NODE_PORT) {
		step(walk, "frontend", "found", "%s is the %s address of %s", walk->to,
		     weft_frontend_type_name(walk->frontend.type),
		     weft_view_service(walk->view, walk->frontend.service, label));
		return GO_ON;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	step(walk, "frontend", "go on", "no service has %s over %s", walk->to,
	     weft_protocol_name(walk->asked.protocol));
	weft_addr_format(&walk->asked.addr, text);
	r = get(walk, WEFT_MAP_FRONTEND, &key, &address);
	if (r == -ENOENT) {
		step(walk, "address", "left alone", "%s belongs to no service", text);
		return PASS;
	}
	if (r < 0)
		return r;
	if (address.flags & WEFT_FRONTEND_F_NODE) {
		step(walk, "address", "go on", "%s is an address of %s node", text,
		     address.flags & WEFT_FRONTEND_F_THIS_NODE ? "this" : "another");
		r = pass_node_port(walk, &address);
		if (r != 0)
			return r < 0 ? r : GO_ON;
	}
	if (!(address.flags & WEFT_FRONTEND_F_REFUSE)) {
		step(walk, "address", "left alone", "ports of %s that no service has are left alone", text);
		return PASS;
	}
	step(walk, "address", "found", "%s belongs to services, none of which has port %u/%s", text,
	     ntohs(walk->asked.port), weft_protocol_name(walk->asked.protocol));
	walk->frontend = address;
	return GO_ON;
}

static int find_exception(struct walk *walk)
{
	struct weft_port port = { .port = walk->asked.port, .protocol = walk->asked.protocol };
	struct weft_cidr cidr = { .bits = 128, .addr = walk->asked.addr };
	uint32_t one;
	int r;

	if (walk->setting.flags & WEFT_SETTING_F_BYPASS) {
		step(walk, "bypass", "left alone", "the node is in bypass (counter bypassed)");
		return PASS;
	}
	step(walk, "bypass", "go on", "the node is not in bypass");
	if (walk->bound && (walk->pod.flags & WEFT_POD_F_OPT_OUT)) {
		step(walk, "pod", "left alone", "%s is opted out of the mesh (counter opted_out_pod)", walk->from);
		return PASS;
	}
	if (walk->bound)
		step(walk, "pod", "go on",
		     "%s is bound to the network namespace with cookie %" PRIu64 " and not opted out", walk->from,
		     walk->netns);
	else if (strcmp(walk->from, "host") == 0)
		step(walk, "pod", "go on", "the node's own network namespace is nobody's");
	else
		step(walk, "pod", "go on",
		     "%s is bound to no network namespace of this node: its connections count as of an unknown source",
		     walk->from);
	if (!(walk->setting.flags & WEFT_SETTING_F_OPT_OUT)) {
		step(walk, "opt-out", "go on", "no address or port is opted out");
		return GO_ON;
	}
	r = get(walk, WEFT_MAP_OPTOUT_PORT, &port, &one);
	if (r == 0) {
		step(walk, "opt-out", "left alone", "port %u/%s is opted out of the mesh (counter opted_out_target)",
		     ntohs(port.port), weft_protocol_name(port.protocol));
		return PASS;
	}
	if (r != -ENOENT)
		return r;
	r = get(walk, WEFT_MAP_OPTOUT_CIDR, &cidr, &one);
	if (r == 0) {
		step(walk, "opt-out", "left alone", "the address is opted out of the mesh (counter opted_out_target)");
		return PASS;
	}
	if (r != -ENOENT)
		return r;
	step(walk, "opt-out", "go on", "neither the address nor the port is opted out");
	return GO_ON;
}

static int find_refusal(struct walk *walk)
{
	const struct weft_frontend *frontend = &walk->frontend;

	if (frontend->flags & WEFT_FRONTEND_F_PASS) {
		step(walk, "service", "left alone",
		     "the service is counted and named, but never rewritten (headless, resolution NONE or PASSTHROUGH)");
		return PASS;
	}
	if (frontend->type == WEFT_FRONTEND_ADDRESS) {
		step(walk, "service", "refused", "ports that no service has are refused (counter no_port)");
		return REFUSE;
	}
	if (!frontend->count) {
		step(walk, "service", "refused", "no endpoint may be used (counter no_endpoint)");
		return REFUSE;
	}
	step(walk, "service", "go on", "%zu endpoint%s may be used", walk->candidates_count,
	     walk->candidates_count == 1 ? "" : "s");
	return GO_ON;
}

static const struct weft_view_candidate *candidate(const struct walk *walk, uint32_t id)
{
	for (size_t i = 0; i < walk->candidates_count; i++)
		if (walk->candidates[i].endpoint.id == id)
			return &walk->candidates[i];
	return NULL;
}

static bool any_ready(const struct walk *walk)
{
	for (size_t i = 0; i < walk->candidates_count; i++)
		if (walk->candidates[i].endpoint.state == WEFT_ENDPOINT_READY)
			return true;
	return false;
}

static int find_affinity(struct walk *walk)
{
	struct weft_affinity_key key = { .client = walk->netns, .service = walk->frontend.service };
	uint64_t now = weft_clock_monotonic_ns(), limit = walk->frontend.affinity_s * 1000000000ull, since;
	char text[WEFT_ADDR_TEXT];
	struct weft_endpoint endpoint;
	struct weft_affinity kept;
	uint32_t index;
	int r;

	if (!walk->frontend.affinity_s) {
		step(walk, "affinity", "go on", "the service has none");
		return 0;
	}
	if (!walk->bound) {
		step(walk, "affinity", "go on",
		     "the client's network namespace is not known here, so neither is what it used before");
		return 0;
	}
	r = get(walk, WEFT_MAP_AFFINITY, &key, &kept);
	if (r == -ENOENT) {
		step(walk, "affinity", "go on", "the client has used no endpoint of the service yet");
		return 0;
	}
	if (r < 0)
		return r;
	since = now - kept.used_ns;
	if (since >= limit) {
		step(walk, "affinity", "go on", "the client's last use is %" PRIu64 " s ago, the timeout is %u s",
		     since / 1000000000u, walk->frontend.affinity_s);
		return 0;
	}
	index = WEFT_ENDPOINT_INDEX(kept.endpoint);
	r = get(walk, WEFT_MAP_ENDPOINT, &index, &endpoint);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r < 0 || endpoint.id != kept.endpoint || endpoint.service != walk->frontend.service ||
	    (endpoint.state != WEFT_ENDPOINT_READY && endpoint.state != WEFT_ENDPOINT_SERVING)) {
		step(walk, "affinity", "go on", "the endpoint that the client used before may no longer be used");
		return 0;
	}
	weft_addr_port_format(&endpoint.addr, ntohs(endpoint.port), text);
	if ((walk->frontend.flags & WEFT_FRONTEND_F_LOCAL) && !(endpoint.flags & WEFT_ENDPOINT_F_LOCAL)) {
		step(walk, "affinity", "go on", "the client used %s, but this address takes endpoints of this node only", text);
		return 0;
	}
	if (endpoint.state == WEFT_ENDPOINT_SERVING && any_ready(walk)) {
		step(walk, "affinity", "go on", "the client used %s, which terminates while others are ready", text);
		return 0;
	}
	step(walk, "affinity", "found", "the client used %s %" PRIu64 " s ago, the timeout is %u s", text,
	     since / 1000000000u, walk->frontend.affinity_s);
	walk->kept = kept.endpoint;
	return 0;
}

/* `b` carries strictly less per weight than `a`, as in the kernel's second choice. */
static bool less_loaded(const struct weft_view_candidate *b, const struct weft_view_candidate *a)
{
	return b->live * a->endpoint.weight < a->live * b->endpoint.weight;
}

/*
 * Two draws by weight; the second one wins if it is strictly less loaded. So i
 * wins drawn first against all that are not less loaded, itself included, and drawn second
 * against all that are more loaded.
 */
static double two_choices(const struct walk *walk, size_t i)
{
	const struct weft_view_candidate *own = &walk->candidates[i];
	double sum = 0;

	for (size_t j = 0; j < walk->candidates_count; j++) {
		const struct weft_view_candidate *other = &walk->candidates[j];

		if (i == j || !less_loaded(other, own))
			sum += other->share;
		if (i != j && less_loaded(own, other))
			sum += other->share;
	}
	return own->share * sum;
}

static int choose(struct walk *walk)
{
	uint32_t service = walk->frontend.service;
	uint64_t turn = 0;
	int r;

	walk->probabilities = calloc(walk->candidates_count + 1, sizeof(*walk->probabilities));
	if (!walk->probabilities)
		return weft_err_set(walk->err, ENOMEM, "out of memory");
	if (walk->kept) {
		for (size_t i = 0; i < walk->candidates_count; i++)
			walk->probabilities[i] = walk->candidates[i].endpoint.id == walk->kept;
		return TRANSLATE;
	}
	for (size_t i = 0; i < walk->candidates_count; i++)
		walk->probabilities[i] =
			walk->frontend.algorithm == WEFT_ALGORITHM_LEAST_REQUEST && walk->frontend.count > 1
				? two_choices(walk, i)
				: walk->candidates[i].share;
	switch (walk->frontend.algorithm) {
	case WEFT_ALGORITHM_ROUND_ROBIN:
		r = get(walk, WEFT_MAP_TURN, &service, &turn);
		if (r < 0 && r != -ENOENT)
			return r;
		step(walk, "choice", "drawn",
		     "round-robin: turn %" PRIu64 " comes next; over many turns each gets its share by weight", turn);
		break;
	case WEFT_ALGORITHM_RANDOM:
		step(walk, "choice", "drawn", "random: each by its weight");
		break;
	default:
		step(walk, "choice", "drawn",
		     "least-request: two are drawn by weight, the one with fewer live connections per weight is taken, the first if equal");
		break;
	}
	return TRANSLATE;
}

/* Whether the kernel looks at the exceptions: of an address that is no frontend only the secure lane asks for them. */
static int asks_exceptions(struct walk *walk, int verdict)
{
	uint32_t workload;
	int r;

	if (verdict != PASS)
		return verdict == GO_ON;
	if (walk->asked.protocol != IPPROTO_TCP || !(walk->setting.flags & WEFT_SETTING_F_SECURE))
		return 0;
	r = get(walk, WEFT_MAP_WORKLOAD_AT, &walk->asked.addr, &workload);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

static int go(struct walk *walk)
{
	int r = find_frontend(walk), asks = r < 0 ? r : asks_exceptions(walk, r);

	if (asks < 0)
		return asks;
	if (asks) {
		int exception = find_exception(walk);

		walk->excepted = exception == PASS;
		if (exception != GO_ON)
			return exception;
	}
	if (r != GO_ON)
		return r;
	r = weft_view_candidates(walk->view, &walk->frontend, &walk->candidates, &walk->candidates_count, walk->err);
	if (r == 0)
		r = find_refusal(walk);
	if (r != GO_ON)
		return r;
	r = find_affinity(walk);
	return r < 0 ? r : choose(walk);
}

/* ---- the secure lane: the agent has the policies ---- */

/* As many as one wants to read; after these it is only counted. */
#define JUDGED_SHOWN 8

/* False: no agent, or one that does not know. */
static bool judge_one(struct walk *walk, struct weft_client *client, const char *to, uint16_t port, const char *who)
{
	weft_json_on_exit struct json_object *request = json_object_new_object(), *answer = NULL;
	struct json_object *takes_part, *allowed, *dry;
	const char *security, *policy;
	struct weft_err err;

	json_object_object_add(request, "request", json_object_new_string("policy.judge"));
	json_object_object_add(request, "from", json_object_new_string(walk->from));
	json_object_object_add(request, "to", json_object_new_string(to));
	if (weft_client_call(client, request, &answer, &err) < 0)
		return false;
	takes_part = weft_agent_member(answer, "takes_part", json_type_boolean);
	allowed = weft_agent_member(answer, "allowed", json_type_boolean);
	dry = weft_agent_member(answer, "dry_run_denied", json_type_boolean);
	walk->judged++;
	if (!takes_part || !json_object_get_boolean(takes_part) || !allowed)
		return true;
	if (WEFT_PORT_IS_AGENTS(port)) {
		walk->denied++;
		if (walk->agents++ < JUDGED_SHOWN)
			step(walk, "lane", "refused", "%s: port %u is for agents alone (counter agent_port)", who, port);
		return true;
	}
	security = weft_agent_text(answer, "security");
	policy = weft_agent_text(answer, "policy");
	walk->denied += !json_object_get_boolean(allowed);
	walk->tunnelled |= strcmp(security, "mutual_tls") == 0;
	if (walk->judged > JUDGED_SHOWN)
		return true;
	if (strcmp(security, "none") == 0)
		step(walk, "lane", "plaintext", "%s takes mutual TLS, and %s is not attached", who, walk->from);
	else
		step(walk, "lane", strcmp(security, "attested") == 0 ? "attested" : "mutual TLS", "%s, as %s, to %s, who is %s", walk->from,
		     weft_agent_text(answer, "source_identity"), who, weft_agent_text(answer, "destination_identity"));
	step(walk, "policy", json_object_get_boolean(allowed) ? "allowed" : "refused", "%s: %s%s%s%s%s", who, weft_agent_text(answer, "reason"),
	     *policy ? " (" : "", policy, *policy ? ")" : "",
	     dry && json_object_get_boolean(dry) ? "; a policy in dry-run would refuse it" : "");
	return true;
}

static void judge(struct walk *walk, int verdict)
{
	weft_cleanup(weft_client_closep) struct weft_client *client = NULL;
	char to[WEFT_ADDR_TEXT], label[WEFT_LABEL];
	struct weft_err err;

	if (walk->asked.protocol != IPPROTO_TCP || (verdict != TRANSLATE && verdict != PASS) ||
	    !(walk->setting.flags & WEFT_SETTING_F_SECURE) || walk->excepted)
		return;
	if (weft_client_open(walk->options->run, &client, &err) < 0) {
		step(walk, "lane", "not known", "no agent answers, which has identities and policies");
		return;
	}
	if (verdict == PASS) {
		judge_one(walk, client, walk->to, ntohs(walk->asked.port), walk->to);
		return;
	}
	for (size_t i = 0; i < walk->candidates_count; i++) {
		const struct weft_endpoint *endpoint = &walk->candidates[i].endpoint;

		if (walk->kept && endpoint->id != walk->kept)
			continue;
		weft_addr_port_format(&endpoint->addr, ntohs(endpoint->port), to);
		weft_view_workload(walk->view, endpoint->workload, label);
		if (!judge_one(walk, client, to, ntohs(endpoint->port), label))
			return;
	}
}

static void put_candidates(struct walk *walk)
{
	struct weft_output *out = walk->out;
	char text[WEFT_LABEL];

	weft_output_list(out, "candidates");
	for (size_t i = 0; i < walk->candidates_count; i++) {
		const struct weft_view_candidate *c = &walk->candidates[i];

		weft_output_row(out);
		weft_output_number(out, "id", c->endpoint.id);
		weft_output_addr(out, "address", &c->endpoint.addr);
		weft_output_number(out, "port", ntohs(c->endpoint.port));
		weft_output_text(out, "state", weft_endpoint_state_name(c->endpoint.state));
		weft_output_text(out, "workload", weft_view_workload(walk->view, c->endpoint.workload, text));
		weft_output_number(out, "weight", c->endpoint.weight);
		if (weft_view_counted(walk->view))
			weft_output_number(out, "live", c->live);
		weft_output_real(out, "share", c->share);
		weft_output_real(out, "probability", walk->probabilities[i]);
		weft_output_row_end(out);
	}
	weft_output_list_end(out);
}

static void put_translation(struct walk *walk)
{
	const struct weft_view_candidate *one = walk->kept		      ? candidate(walk, walk->kept)
						: walk->candidates_count == 1 ? walk->candidates
									      : NULL;
	char label[WEFT_LABEL], text[WEFT_ADDR_TEXT];

	weft_view_service(walk->view, walk->frontend.service, label);
	weft_output_text(walk->out, "verdict", "translate");
	if (one)
		weft_output_textf(walk->out, "sentence", "%s goes to %s, endpoint %u of %s", walk->to,
				  weft_addr_port_format(&one->endpoint.addr, ntohs(one->endpoint.port), text),
				  one->endpoint.id, label);
	else if (walk->kept)
		weft_output_textf(walk->out, "sentence",
				  "%s goes to endpoint %u of %s, which only clients that used it before still reach",
				  walk->to, walk->kept, label);
	else
		weft_output_textf(walk->out, "sentence", "%s goes to one of %zu endpoints of %s", walk->to,
				  walk->candidates_count, label);
}

static void put_verdict(struct walk *walk, int verdict)
{
	if (walk->denied && walk->denied == walk->judged) {
		weft_output_text(walk->out, "verdict", "refuse");
		weft_output_textf(walk->out, "sentence", "%s is refused%s", walk->to,
				  walk->agents == walk->denied ? ": connect fails at once" : " by policy");
	} else if (verdict == TRANSLATE) {
		put_translation(walk);
	} else if (verdict == REFUSE) {
		weft_output_text(walk->out, "verdict", "refuse");
		weft_output_textf(
			walk->out, "sentence",
			"%s is refused: connect fails at once with ECONNREFUSED, or EPERM where the kernel has no choice of error",
			walk->to);
	} else {
		weft_output_text(walk->out, "verdict", "pass");
		weft_output_textf(walk->out, "sentence", "%s is left alone: the connection goes where the application asked%s", walk->to,
				  walk->tunnelled ? ", in mutual TLS" : "");
	}
}

int weft_cmd_explain(struct weft_context *context, const struct weft_args *args, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = NULL;
	const char *protocol = args->text[WEFT_ARG_PROTOCOL];
	struct walk walk = { .out = context->output, .err = err, .from = args->text[WEFT_ARG_FROM],
			     .options = context->options };
	int r;

	r = weft_view_open(context->options, &view, err);
	if (r < 0)
		return r;
	walk.view = view;
	walk.asked.addr = args->addr;
	walk.asked.port = htons(args->port);
	walk.asked.protocol = protocol && strcmp(protocol, "udp") == 0 ? IPPROTO_UDP : IPPROTO_TCP;
	weft_addr_port_format(&args->addr, args->port, walk.to);
	r = weft_view_setting(view, &walk.setting, err);
	if (r == 0)
		r = find_pod(&walk);
	if (r < 0)
		return r;
	weft_output_row(walk.out);
	weft_output_text(walk.out, "from", walk.from);
	weft_output_text(walk.out, "to", walk.to);
	weft_output_text(walk.out, "protocol", weft_protocol_name(walk.asked.protocol));
	weft_output_list(walk.out, "steps");
	r = go(&walk);
	if (r >= 0) {
		judge(&walk, r);
		weft_output_list_end(walk.out);
		if (r == TRANSLATE)
			put_candidates(&walk);
		put_verdict(&walk, r);
		weft_output_row_end(walk.out);
	}
	free(walk.candidates);
	free(walk.probabilities);
	return r < 0 ? r : 0;
}
