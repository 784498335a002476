/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "kernel/kernel.h"

enum option_id {
	OPTION_CONFIG = 1,
	OPTION_NODE,
	OPTION_CGROUP,
	OPTION_PINS,
	OPTION_STATE,
	OPTION_RUN,
	OPTION_METRICS,
	OPTION_USER,
	OPTION_PROXIES,
	OPTION_WITHOUT_FEATURE,
	OPTION_MAP_SIZE,
	OPTION_MAP_MAX,
	OPTION_LOG_LEVEL,
	OPTION_CHECK,
	OPTION_DIFF,
	OPTION_JSON,
	OPTION_UNINSTALL,
	OPTION_CA_EXPORT,
	OPTION_CA_JOIN,
	OPTION_CA_ROTATE,
	OPTION_CA_REVOKE,
	OPTION_TRUST_DOMAIN,
	OPTION_VERSION,
	OPTION_HELP,
	OPTION_ROLE,
	OPTION_PROXY,
};

/* Help and parser read this one table. No sentence: not for people. */
static const struct row {
	enum option_id id;
	const char *name;
	const char *argument;
	const char *sentence;
} rows[] = {
	{ OPTION_CONFIG, "config", "DIR", "directory of YAML and JSON files (/etc/weft/config.d)" },
	{ OPTION_NODE, "node", "NAME", "this node's name, as Node and EndpointSlice say it (the host's name)" },
	{ OPTION_CGROUP, "cgroup", "DIR", "cgroup2 subtree whose programs are served (the cgroup2 mount)" },
	{ OPTION_PINS, "pins", "DIR", "folder on a bpffs for maps and links (/sys/fs/bpf/weft)" },
	{ OPTION_STATE, "state", "DIR", "folder for the names of ids and the lock (/var/lib/weft)" },
	{ OPTION_RUN, "run", "DIR", "folder for weft.sock (/run/weft)" },
	{ OPTION_METRICS, "metrics", "ADDR:PORT|off", "where Prometheus may ask (127.0.0.1:9464)" },
	{ OPTION_USER, "user", "NAME", "whom the role that reads text runs as (weft, else nobody)" },
	{ OPTION_PROXIES, "proxies", "N", "processes that carry mutual TLS, once a workload is attached (one a CPU)" },
	{ OPTION_WITHOUT_FEATURE, "without-feature", "NAME", "do as if this kernel lacked a feature; may be repeated" },
	{ OPTION_MAP_SIZE, "map-size", "NAME=N", "entries of a map when it is made; may be repeated" },
	{ OPTION_MAP_MAX, "map-max", "NAME=N", "entries up to which a map grows when it must; may be repeated" },
	{ OPTION_LOG_LEVEL, "log-level", "LEVEL", "error, warning, info or debug (info)" },
	{ OPTION_CHECK, "check", "DIR", "say what is wrong with a configuration, touch nothing; exit 1 on errors" },
	{ OPTION_DIFF, "diff", "DIR", "say what DIR would change compared with --config, touch nothing" },
	{ OPTION_JSON, "json", NULL, "with --check, --diff and --ca-...: one JSON object instead of lines" },
	{ OPTION_UNINSTALL, "uninstall", NULL, "detach from the kernel and remove pins, state and run folders" },
	{ OPTION_CA_EXPORT, "ca-export", "FILE", "write what another node joins this one's CA with; prints the code for it" },
	{ OPTION_CA_JOIN, "ca-join", "FILE", "join the CA of FILE; the code is read from standard input" },
	{ OPTION_CA_ROTATE, "ca-rotate", NULL, "make the CA's next root, or have it sign if it is made" },
	{ OPTION_CA_REVOKE, "ca-revoke", "SERIAL", "believe no more what a node signs that joined with this number" },
	{ OPTION_TRUST_DOMAIN, "trust-domain", "NAME", "with --ca-export, of a CA that is not there yet (cluster.local)" },
	{ OPTION_VERSION, "version", NULL, "print the version" },
	{ OPTION_HELP, "help", NULL, "print this" },
	{ OPTION_ROLE, "role", "ROLE", NULL },
	{ OPTION_PROXY, "proxy", "N", NULL },
};

static const struct {
	const char *name; /* lists/map.h, "weft_frontend"; "frontend" is understood too */
	enum weft_map map;
} maps[] = {
#define WEFT_MAP(NAME, name, key, value, owner, sentence) { name, WEFT_MAP_##NAME },
#include "weft/lists/map.h"
#undef WEFT_MAP
};

/*
 * Unless --map-max says otherwise. A row may have any address, so that these bound memory and nothing else: of endpoints there
 * are no more ids, and each is in at most two ranges of slots (of all nodes, of this node), rounded up to a power of two.
 */
static const struct weft_role_capacity ceilings = { .max_entries = {
	[WEFT_MAP_FRONTEND] = 1u << 20,
	[WEFT_MAP_SLOT] = 1u << (WEFT_ENDPOINT_INDEX_BITS + 2),
	[WEFT_MAP_ENDPOINT] = 1u << WEFT_ENDPOINT_INDEX_BITS,
	[WEFT_MAP_ENDPOINT_AT] = 1u << 20,
	[WEFT_MAP_WORKLOAD_AT] = 1u << 20,
	[WEFT_MAP_POD] = 1u << 20,
	[WEFT_MAP_OPTOUT_CIDR] = 1u << 17,
	[WEFT_MAP_OPTOUT_PORT] = 1u << 17,
	/* Its whole size, once a service asks for affinity: entries beyond it push older ones out. */
	[WEFT_MAP_AFFINITY] = 1u << 16,
	[WEFT_MAP_WORKLOAD] = 1u << 20,
	[WEFT_MAP_POLICY] = 1u << 16,
	[WEFT_MAP_POLICY_SOURCE] = 1u << 20,
	[WEFT_MAP_POLICY_CIDR] = 1u << 20,
	[WEFT_MAP_POLICY_PORT] = 1u << 20,
	[WEFT_MAP_CAPTURE] = 1u << 16,
	/* Their whole size, once a pod is in the secure lane: connections that are not established yet. */
	[WEFT_MAP_CAPTURED] = 1u << 14,
	[WEFT_MAP_ATTEST] = 1u << 14,
} };

/* Nothing of the configuration says how many entries these need: they have their whole size, or next to none. */
static bool has_whole_size(enum weft_map map)
{
	return map == WEFT_MAP_AFFINITY || map == WEFT_MAP_CAPTURED || map == WEFT_MAP_ATTEST;
}

const char *weft_agent_role_name(enum weft_agent_role role)
{
	static const char *const names[] = {
		[WEFT_AGENT_INIT] = "init", [WEFT_AGENT_MAIN] = "main", [WEFT_AGENT_CONTROL] = "control",
		[WEFT_AGENT_KEYS] = "keys", [WEFT_AGENT_PROXY] = "proxy",
	};

	return (size_t)role < WEFT_ARRAY_SIZE(names) ? names[role] : NULL;
}

/* `option` is --map-size, or --map-max for the maps that grow. */
static int parse_map_size(const char *option, const char *text, bool grows, struct weft_role_capacity *capacity, struct weft_err *err)
{
	const char *equals = strchr(text, '=');
	unsigned long entries;
	char *end;

	if (!equals || equals[1] < '0' || equals[1] > '9')
		return weft_err_set(err, EINVAL, "%s %s: expected NAME=N, such as frontend=100000", option, text);
	errno = 0;
	entries = strtoul(equals + 1, &end, 10);
	if (errno || *end || entries < 1 || entries > 1ul << 26)
		return weft_err_set(err, EINVAL, "%s %s: the size is a number from 1 to %lu", option, text, 1ul << 26);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(maps); i++) {
		const char *name = maps[i].name;
		size_t length = (size_t)(equals - text);

		if (!(strlen(name) == length && strncmp(name, text, length) == 0) &&
		    !(strlen(name + 5) == length && strncmp(name + 5, text, length) == 0))
			continue;
		if (maps[i].map == WEFT_MAP_SETTING || maps[i].map == WEFT_MAP_COUNTER)
			return weft_err_set(err, EINVAL, "%s %s: the size of %s is fixed", option, text, name);
		if (maps[i].map == WEFT_MAP_LIVE)
			return weft_err_set(err, EINVAL, "%s %s: %s has a row for every endpoint: give endpoint=%lu", option, text,
					    name, entries);
		if (maps[i].map == WEFT_MAP_ENDPOINT && entries > 1ul << WEFT_ENDPOINT_INDEX_BITS)
			return weft_err_set(err, EINVAL, "%s %s: at most %lu endpoints can be told apart", option, text,
					    1ul << WEFT_ENDPOINT_INDEX_BITS);
		if (grows && !ceilings.max_entries[maps[i].map])
			return weft_err_set(err, EINVAL, "%s %s: %s never grows: give its size with --map-size", option, text, name);
		capacity->max_entries[maps[i].map] = (__u32)entries;
		return 0;
	}
	return weft_err_set(err, EINVAL, "%s %s: there is no such map: see `weft map list`", option, text);
}

static int parse_metrics(const char *text, struct weft_options *options, struct weft_err *err)
{
	if (strcmp(text, "off") == 0) {
		options->metrics = false;
		return 0;
	}
	if (weft_addr_port_parse(text, &options->metrics_addr, &options->metrics_port) < 0)
		return weft_err_set(err, EINVAL, "--metrics %s: expected an address and a port, such as 127.0.0.1:9464, or off", text);
	options->metrics = true;
	return 0;
}

static int parse_role(const char *text, struct weft_options *options, struct weft_err *err)
{
	for (enum weft_agent_role role = WEFT_AGENT_MAIN; role < WEFT_AGENT_MAX_; role++)
		if (strcmp(text, weft_agent_role_name(role)) == 0) {
			options->role = role;
			return 0;
		}
	return weft_err_set(err, EINVAL, "--role %s: init starts the roles", text);
}

static int parse_number(const char *option, const char *text, unsigned long least, unsigned long most, unsigned int *ret_number,
			struct weft_err *err)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text < '0' || *text > '9' || number < least || number > most)
		return weft_err_set(err, EINVAL, "%s %s: expected a number from %lu to %lu", option, text, least, most);
	*ret_number = (unsigned int)number;
	return 0;
}

static unsigned int default_proxies(void)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	return online < 1 ? 1 : online > WEFT_PROXY_MAX ? WEFT_PROXY_MAX : (unsigned int)online;
}

static int set_action(struct weft_options *options, enum weft_action action, const char *directory, struct weft_err *err)
{
	if (options->action != WEFT_ACTION_RUN)
		return weft_err_set(err, EINVAL, "only one of --check, --diff, --uninstall, --ca-..., --version and --help at a time");
	options->action = action;
	options->directory = directory;
	return 0;
}

static int parse_one(struct weft_options *options, int id, const char *argument, struct weft_err *err)
{
	enum weft_feature feature;

	switch (id) {
	case OPTION_CONFIG:
		options->config = argument;
		options->config_given = true;
		return 0;
	case OPTION_NODE:
		options->node = argument;
		return 0;
	case OPTION_CGROUP:
		options->cgroup = argument;
		return 0;
	case OPTION_PINS:
		options->pins = argument;
		return 0;
	case OPTION_STATE:
		options->state = argument;
		return 0;
	case OPTION_RUN:
		options->run = argument;
		return 0;
	case OPTION_METRICS:
		return parse_metrics(argument, options, err);
	case OPTION_USER:
		options->user = argument;
		return 0;
	case OPTION_WITHOUT_FEATURE:
		if (weft_feature_parse(argument, &feature) < 0)
			return weft_err_set(err, EINVAL, "--without-feature %s: there is no such feature: see `weft feature list`", argument);
		options->without_features |= 1ull << feature;
		return 0;
	case OPTION_MAP_SIZE:
		return parse_map_size("--map-size", argument, false, &options->capacity, err);
	case OPTION_MAP_MAX:
		return parse_map_size("--map-max", argument, true, &options->ceiling, err);
	case OPTION_LOG_LEVEL:
		if (weft_log_level_parse(argument, &options->log_level) < 0)
			return weft_err_set(err, EINVAL, "--log-level %s: expected error, warning, info or debug", argument);
		return 0;
	case OPTION_CHECK:
		return set_action(options, WEFT_ACTION_CHECK, argument, err);
	case OPTION_DIFF:
		return set_action(options, WEFT_ACTION_DIFF, argument, err);
	case OPTION_JSON:
		options->json = true;
		return 0;
	case OPTION_CA_EXPORT:
		return set_action(options, WEFT_ACTION_CA_EXPORT, argument, err);
	case OPTION_CA_JOIN:
		return set_action(options, WEFT_ACTION_CA_JOIN, argument, err);
	case OPTION_CA_ROTATE:
		return set_action(options, WEFT_ACTION_CA_ROTATE, NULL, err);
	case OPTION_CA_REVOKE:
		return set_action(options, WEFT_ACTION_CA_REVOKE, argument, err);
	case OPTION_TRUST_DOMAIN:
		options->trust_domain = argument;
		return 0;
	case OPTION_UNINSTALL:
		return set_action(options, WEFT_ACTION_UNINSTALL, NULL, err);
	case OPTION_VERSION:
		return set_action(options, WEFT_ACTION_VERSION, NULL, err);
	case OPTION_HELP:
		return set_action(options, WEFT_ACTION_HELP, NULL, err);
	case OPTION_ROLE:
		return parse_role(argument, options, err);
	case OPTION_PROXIES:
		return parse_number("--proxies", argument, 1, WEFT_PROXY_MAX, &options->proxies, err);
	case OPTION_PROXY:
		return parse_number("--proxy", argument, 0, WEFT_PROXY_MAX - 1, &options->proxy, err);
	}
	return -EINVAL;
}

static int check_whole(const struct weft_options *options, struct weft_err *err)
{
	const struct {
		const char *option;
		const char *value;
	} folders[] = {
		{ "config", options->config }, { "pins", options->pins }, { "state", options->state },
		{ "run", options->run },       { "node", options->node },
	};

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(folders); i++)
		if (!*folders[i].value)
			return weft_err_set(err, EINVAL, "--%s may not be empty", folders[i].option);
	if (options->json && options->action != WEFT_ACTION_CHECK && options->action != WEFT_ACTION_DIFF &&
	    (options->action < WEFT_ACTION_CA_EXPORT || options->action > WEFT_ACTION_CA_REVOKE))
		return weft_err_set(err, EINVAL, "--json goes with --check, --diff or --ca-...");
	if (options->trust_domain && options->action != WEFT_ACTION_CA_EXPORT)
		return weft_err_set(err, EINVAL, "--trust-domain goes with --ca-export: the mesh's is in MeshConfig");
	return 0;
}

/* A size that was asked for is allowed. */
static int set_ceilings(struct weft_options *options, struct weft_err *err)
{
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(maps); i++) {
		__u32 size = options->capacity.max_entries[maps[i].map], *max = &options->ceiling.max_entries[maps[i].map];

		if (*max && *max < size)
			return weft_err_set(err, EINVAL, "--map-max %s=%u is less than its --map-size, %u", maps[i].name, *max, size);
		if (!*max) /* as large as was asked for, the others as they must */
			*max = size && has_whole_size(maps[i].map) ? size : ceilings.max_entries[maps[i].map];
		if (*max && *max < size)
			*max = size;
	}
	return 0;
}

int weft_options_parse(int argc, char **argv, struct weft_options *ret_options, struct weft_err *err)
{
	struct option table[WEFT_ARRAY_SIZE(rows) + 1] = { 0 };
	struct weft_options options = {
		.config = "/etc/weft/config.d",
		.pins = "/sys/fs/bpf/weft",
		.state = "/var/lib/weft",
		.run = "/run/weft",
		.log_level = WEFT_LOG_INFO,
		.proxies = default_proxies(),
		.argv = argv,
	};
	bool host;
	int id, r;

	r = parse_metrics("127.0.0.1:9464", &options, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(rows); i++)
		table[i] = (struct option){ rows[i].name, rows[i].argument ? required_argument : no_argument, NULL, (int)rows[i].id };
	optind = 0; /* 0, not 1: glibc starts anew */
	opterr = 0;
	while ((id = getopt_long(argc, argv, ":", table, NULL)) != -1) {
		if (id == ':')
			return weft_err_set(err, EINVAL, "%s needs an argument: see weftd --help", argv[optind - 1]);
		if (id == '?')
			return weft_err_set(err, EINVAL, "%s: no such option, or more than one begins like this: see weftd --help",
					    argv[optind - 1]);
		r = parse_one(&options, id, optarg, err);
		if (r < 0)
			return r;
	}
	if (optind < argc)
		return weft_err_set(err, EINVAL, "%s: weftd takes options only: see weftd --help", argv[optind]);
	host = !options.node;
	if (host && (gethostname(options.host, sizeof(options.host) - 1) < 0 || !options.host[0]))
		return weft_err_set(err, EINVAL, "this host has no name: give the node's with --node");
	if (host)
		options.node = options.host;
	r = check_whole(&options, err);
	if (r == 0)
		r = set_ceilings(&options, err);
	if (r < 0)
		return r;
	*ret_options = options;
	if (host)
		ret_options->node = ret_options->host;
	return 0;
}

void weft_options_help(FILE *out)
{
	fputs("Usage: weftd [OPTION]...\n"
	      "The agent of a weft node: fills BPF maps from mesh configuration and serves `weft` and Prometheus.\n\n",
	      out);
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(rows); i++) {
		char left[64];

		if (!rows[i].sentence)
			continue;
		snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].argument ? " " : "", rows[i].argument ? rows[i].argument : "");
		fprintf(out, "  %-26s %s\n", left, rows[i].sentence);
	}
	fputs("\nExit: 0 done, 1 failed or --check found errors, 2 wrong usage, 3 another agent holds the instance,\n"
	      "4 the kernel lacks something that is needed, 5 not allowed. See weftd(8).\n",
	      out);
}
