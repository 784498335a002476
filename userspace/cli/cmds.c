/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmds.h"

#include <stddef.h>

#define END                                                                                                            \
	{                                                                                                              \
		0                                                                                                      \
	}
#define OPTION(member) offsetof(struct weft_options, member)

const struct weft_option weft_options[] = {
	{ 'j', "json", NULL, NULL, NULL, "print JSON", OPTION(json) },
	{ 'p', "pretty", NULL, NULL, NULL, "print JSON with indentation", OPTION(pretty) },
	{ 0, "pins", "DIR", "WEFT_PINS", "/sys/fs/bpf/weft", "the instance's pin folder", OPTION(pins) },
	{ 0, "state", "DIR", "WEFT_STATE", "/var/lib/weft", "the instance's state folder, which holds the names",
	  OPTION(state) },
	{ 0, "run", "DIR", "WEFT_RUN", "/run/weft", "the instance's run folder, which holds the agent's socket",
	  OPTION(run) },
	{ 'V', "version", NULL, NULL, NULL, "print the version", OPTION(version) },
	{ 'h', "help", NULL, NULL, NULL, "explain the object and verb that are given, or all", OPTION(help) },
};
const size_t weft_options_count = WEFT_ARRAY_SIZE(weft_options);

const struct weft_object weft_objects[] = {
	{ "service", "services: their addresses, and the endpoints behind each" },
	{ "endpoint", "endpoints: state, weight, live connections" },
	{ "workload", "workloads: who stands behind an address or a network namespace" },
	{ "conn", "connections of all network namespaces" },
	{ "identity", "identities of this node's workloads, and their certificates" },
	{ "policy", "policies: who may connect to whom" },
	{ "config", "mesh configuration: what is in force, what is wrong, what would change" },
	{ "feature", "kernel features that weft uses or can do without" },
	{ "prog", "BPF programs that are attached" },
	{ "map", "BPF maps and how full they are" },
	{ "metric", "counters, connection aggregates and latencies" },
	{ "status", "the agent and the kernel's side at a glance" },
	{ "log", "what the agent logs" },
	{ "bypass", "takes the mesh out of the way of new connections, and back" },
	{ "top", "a live view of services" },
	{ "explain", "what a connect would do, step by step, and why" },
	{ "ca", "the embedded certificate authority: shares it with other nodes, replaces its root" },
	{ "uninstall", "removes every trace of an instance" },
	{ "version", "the version" },
	{ "help", "what weft can be asked" },
};
const size_t weft_objects_count = WEFT_ARRAY_SIZE(weft_objects);

static const char *const protocols[] = { "tcp", "udp", NULL };
static const char *const levels[] = { "error", "warning", "info", "debug", NULL };
static const char *const sorts[] = { "live", "rate", "failures", "bytes", "rtt", "name", NULL };
static const char *const states[] = { "established", "syn-sent",     "syn-recv",   "fin-wait-1", "fin-wait-2",
				      "time-wait",   "close",	     "close-wait", "last-ack",	 "listen",
				      "closing",     "new-syn-recv", NULL };

#define ARG_NAMESPACE(what)                                                                                            \
	{                                                                                                              \
		WEFT_ARG_NAMESPACE, WEFT_ARGUMENT_TEXT, "namespace", "NS", NULL, false,                                \
			"only " what " of this namespace"                                                              \
	}
#define ARG_NAME(what)                                                                                                 \
	{                                                                                                              \
		WEFT_ARG_NAME, WEFT_ARGUMENT_TEXT, "name", "NAME", NULL, false, "only " what " of this name"           \
	}
#define ARG_SERVICE(what)                                                                                              \
	{                                                                                                              \
		WEFT_ARG_SERVICE, WEFT_ARGUMENT_PAIR, "service", "NS/NAME", NULL, false,                               \
			"only " what " of this service"                                                                \
	}

static const struct weft_argument service_list_arguments[] = { ARG_NAMESPACE("services"), ARG_NAME("services"), END };
static const struct weft_argument service_show_arguments[] = {
	{ WEFT_ARG_SERVICE, WEFT_ARGUMENT_PAIR, NULL, "NS/NAME", NULL, true, "the service" },
	END,
};

#define ENDPOINT_COLUMNS                                                                                                       \
	{ "id", NULL, WEFT_COLUMN_NUMBER, "id of the endpoint, as `endpoint show id` takes it" },                              \
		{ "address", "Endpoint", WEFT_COLUMN_TEXT, "address of the endpoint" },                                        \
		{ "port", "Port", WEFT_COLUMN_NUMBER, "port of the endpoint" },                                                \
		{ "state", "State", WEFT_COLUMN_TEXT,                                                                          \
		  "`ready`; `serving`: terminating but still serving; `draining`: not chosen, connections may stay; `gone`" }, \
		{ "weight", "Weight", WEFT_COLUMN_NUMBER, "weight, 1 if nobody says otherwise" },                              \
		{ "share", "Share", WEFT_COLUMN_SHARE,                                                                         \
		  "probability of the choice by weight alone, 0 to 1; live connections and affinity come on top" },            \
		{ "live", "Live", WEFT_COLUMN_NUMBER, "connections that sockets of this node hold to it" },                    \
		{ "workload", "Workload", WEFT_COLUMN_TEXT, "workload behind the address, NAMESPACE/NAME" },                   \
	{                                                                                                                      \
		"local", NULL, WEFT_COLUMN_YES, "whether it is on this node"                                                   \
	}

static const struct weft_column used_endpoint_columns[] = { ENDPOINT_COLUMNS, END };

#define FRONTEND_COLUMNS(kind)                                                                                         \
	{ "type", "Type", WEFT_COLUMN_TEXT,                                                                            \
	  "`cluster-ip`, `node-port`, `external-ip`, `load-balancer` or `service-entry`" },                            \
		{ "address", "Address", WEFT_COLUMN_TEXT, "address; `0.0.0.0` or `::` for a node port: any address of a node" },    \
		{ "port", "Port", WEFT_COLUMN_NUMBER, "port" },                                                        \
		{ "protocol", "Protocol", WEFT_COLUMN_TEXT, "`tcp` or `udp`" },                                        \
		{ "action", NULL, WEFT_COLUMN_TEXT,                                                                    \
		  "`balance`; `pass`: counted and named, never rewritten; `refuse`: no endpoint may be used" },        \
		{ "algorithm", "Algorithm", WEFT_COLUMN_TEXT, "`least-request`, `round-robin` or `random`" },          \
		{ "affinity_s", NULL, WEFT_COLUMN_NUMBER,                                                              \
		  "timeout of ClientIP affinity in seconds; left out without affinity" },                              \
		{ "affinity", "Affinity", WEFT_COLUMN_TEXT, "`client-ip` or `none`" },                                 \
		{ "this_node", NULL, WEFT_COLUMN_YES, "node port: works through this node's addresses only" },         \
		{ "endpoint_count", "Endpoints", WEFT_COLUMN_NUMBER, "endpoints in use" },                             \
	{                                                                                                              \
		"endpoints", "Endpoints in use", kind, "endpoints in use", used_endpoint_columns                       \
	}

static const struct weft_column listed_frontend_columns[] = { FRONTEND_COLUMNS(WEFT_COLUMN_LIST), END };
static const struct weft_column shown_frontend_columns[] = { FRONTEND_COLUMNS(WEFT_COLUMN_FLAT), END };

#define SERVICE_COLUMNS                                                                                                \
	{ "id", NULL, WEFT_COLUMN_NUMBER, "id of this port of the service" },                                          \
		{ "namespace", "Namespace", WEFT_COLUMN_TEXT, "namespace" },                                           \
		{ "name", "Name", WEFT_COLUMN_TEXT, "name" },                                                          \
		{ "host", NULL, WEFT_COLUMN_TEXT, "fully qualified name, or a ServiceEntry's host" },                  \
		{ "port_name", NULL, WEFT_COLUMN_TEXT, "name of the port" },                                           \
		{ "port", NULL, WEFT_COLUMN_NUMBER, "port of the service" },                                           \
		{ "protocol", NULL, WEFT_COLUMN_TEXT, "`tcp` or `udp`" },                                              \
	{                                                                                                              \
		"live", "Live", WEFT_COLUMN_NUMBER, "connections that sockets of this node hold to its endpoints"      \
	}

static const struct weft_column service_list_columns[] = {
	SERVICE_COLUMNS,
	{ "frontends", "Frontends", WEFT_COLUMN_FLAT, "addresses of this port, sorted by type and address",
	  listed_frontend_columns },
	END,
};
static const struct weft_column service_show_columns[] = {
	SERVICE_COLUMNS,
	{ "frontends", "Frontends", WEFT_COLUMN_LIST, "addresses of this port, sorted by type and address",
	  shown_frontend_columns },
	END,
};

static const struct weft_argument endpoint_list_arguments[] = { ARG_SERVICE("endpoints"), END };
static const struct weft_argument endpoint_show_arguments[] = {
	{ WEFT_ARG_ID, WEFT_ARGUMENT_NUMBER, "id", "ID", NULL, true, "id of the endpoint" },
	END,
};

#define ENDPOINT_ROW                                                                                                           \
	{ "id", "Id", WEFT_COLUMN_NUMBER, "id: an index with a generation" },                                                  \
		{ "service", "Service", WEFT_COLUMN_TEXT, "NAMESPACE/NAME:PORT of the service" },                              \
		{ "address", "Address", WEFT_COLUMN_TEXT, "address" }, { "port", "Port", WEFT_COLUMN_NUMBER, "port" },         \
		{ "protocol", "Protocol", WEFT_COLUMN_TEXT, "`tcp` or `udp`" },                                                \
		{ "state", "State", WEFT_COLUMN_TEXT,                                                                          \
		  "`ready`; `serving`: terminating but still serving; `draining`: not chosen, connections may stay; `gone`" }, \
		{ "weight", "Weight", WEFT_COLUMN_NUMBER, "weight" },                                                          \
		{ "live", "Live", WEFT_COLUMN_NUMBER, "connections that sockets of this node hold to it" },                    \
		{ "workload", "Workload", WEFT_COLUMN_TEXT, "workload behind the address, NAMESPACE/NAME" },                   \
	{                                                                                                                      \
		"local", "Local", WEFT_COLUMN_YES, "whether it is on this node"                                                \
	}

static const struct weft_column endpoint_list_columns[] = { ENDPOINT_ROW, END };
static const struct weft_column endpoint_use_columns[] = {
	{ "type", "Type", WEFT_COLUMN_TEXT, "type of the frontend, as in `service list`" },
	{ "address", "Address", WEFT_COLUMN_TEXT, "its address" },
	{ "port", "Port", WEFT_COLUMN_NUMBER, "its port" },
	{ "share", "Share", WEFT_COLUMN_SHARE, "probability of the choice by weight alone" },
	END,
};
static const struct weft_column endpoint_show_columns[] = {
	ENDPOINT_ROW,
	{ "index", "Index", WEFT_COLUMN_NUMBER, "index into weft_endpoint and weft_live" },
	{ "generation", "Generation", WEFT_COLUMN_NUMBER, "how often the index was used before" },
	{ "frontends", "Chosen by", WEFT_COLUMN_LIST, "frontends that may choose it", endpoint_use_columns },
	END,
};

static const struct weft_argument workload_list_arguments[] = { ARG_NAMESPACE("workloads"), ARG_NAME("workloads"),
								END };
static const struct weft_argument workload_show_arguments[] = {
	{ WEFT_ARG_POD, WEFT_ARGUMENT_PAIR, NULL, "NS/NAME", NULL, true, "the workload" },
	END,
};
#define WORKLOAD_COLUMNS(header)                                                                                       \
	{ "id", NULL, WEFT_COLUMN_NUMBER, "id" }, { "namespace", "Namespace", WEFT_COLUMN_TEXT, "namespace" },         \
		{ "name", "Name", WEFT_COLUMN_TEXT, "name" },                                                          \
		{ "kind", "Kind", WEFT_COLUMN_TEXT, "`Pod` or `WorkloadEntry`" },                                      \
		{ "service_account", header("Service account"), WEFT_COLUMN_TEXT, "service account" },                 \
		{ "node", "Node", WEFT_COLUMN_TEXT, "node" }, { "zone", "Zone", WEFT_COLUMN_TEXT, "zone" },            \
		{ "app", header("App"), WEFT_COLUMN_TEXT, "canonical name, from its labels" },                         \
		{ "version", header("Version"), WEFT_COLUMN_TEXT, "canonical revision, from its labels" },             \
		{ "addresses", "Addresses", WEFT_COLUMN_TEXTS, "its addresses" },                                      \
		{ "netns", "Netns", WEFT_COLUMN_TEXTS, "cookies of the network namespaces bound to it on this node" }, \
	{                                                                                                              \
		"opted_out", header("Opted out"), WEFT_COLUMN_YES,                                                     \
			"whether its sockets are left alone; only of a workload bound on this node"                    \
	},                                                                                                             \
		{ "attached", "Attached", WEFT_COLUMN_YES,                                                             \
		  "whether it is in the secure lane; until it is, what reaches it is not authenticated. Only of a workload bound on this node" }, \
	{                                                                                                              \
		"not_attached", header("Not attached"), WEFT_COLUMN_TEXT, "why one that is to be attached is not, as the agent says" \
	}
#define IN_TEXT(header) header
#define IN_JSON(header) NULL
static const struct weft_argument workload_attach_arguments[] = {
	{ WEFT_ARG_POD, WEFT_ARGUMENT_PAIR, NULL, "NS/NAME", NULL, true, "the workload" },
	{ WEFT_ARG_NETNS, WEFT_ARGUMENT_TEXT, "netns", "NETNS", NULL, true, "its network namespace: a name of /run/netns, or pid:NUMBER" },
	END,
};
static const struct weft_column workload_change_columns[] = {
	{ "workload", "Workload", WEFT_COLUMN_TEXT, "the workload" },
	{ "attached", "Attached", WEFT_COLUMN_YES, "whether it is attached now by command" },
	END,
};

#define IDENTITY_COLUMNS                                                                                               \
	{ "identity", "Identity", WEFT_COLUMN_TEXT, "SPIFFE id" },                                                     \
		{ "serial", "Serial", WEFT_COLUMN_TEXT, "serial number of its certificate, in hexadecimal" },          \
		{ "expires_ns", "Expires in", WEFT_COLUMN_NS, "time until the certificate ends, in nanoseconds; 0 once it has" }, \
		{ "not_before", NULL, WEFT_COLUMN_NUMBER, "when it begins, in seconds since 1970" },                   \
		{ "not_after", NULL, WEFT_COLUMN_NUMBER, "when it ends, in seconds since 1970" },                      \
	{                                                                                                              \
		"certificates", NULL, WEFT_COLUMN_NUMBER, "certificates that are shown to a peer, the leaf and those above it" \
	}
static const struct weft_column identity_list_columns[] = { IDENTITY_COLUMNS, END };
static const struct weft_column identity_show_columns[] = {
	IDENTITY_COLUMNS,
	{ "pem", NULL, WEFT_COLUMN_TEXT, "the certificates, leaf first, as `openssl x509` reads them" },
	END,
};
static const struct weft_argument identity_show_arguments[] = {
	{ WEFT_ARG_IDENTITY, WEFT_ARGUMENT_TEXT, NULL, "SPIFFE-ID", NULL, true, "the identity" },
	END,
};

#define POLICY_COLUMNS                                                                                                 \
	{ "policy", "Policy", WEFT_COLUMN_TEXT, "its kind, namespace and name" },                                      \
		{ "action", "Action", WEFT_COLUMN_TEXT, "`ALLOW` or `DENY`; of a PeerAuthentication its mode" },       \
		{ "scope", "Scope", WEFT_COLUMN_TEXT, "`mesh`, `namespace`, or `workloads`: those of a selector" },    \
		{ "state", "State", WEFT_COLUMN_TEXT,                                                                  \
		  "`in force`; `unused`: it decides about no workload; `does not fit`: a workload has more than the kernel takes, there it is held closed" }, \
		{ "dry_run", "Dry run", WEFT_COLUMN_YES, "whether it only counts" },                                   \
		{ "workloads", "Workloads", WEFT_COLUMN_NUMBER, "workloads of the mesh that it can decide about" },    \
	{                                                                                                              \
		"combinations", "Combinations", WEFT_COLUMN_NUMBER, "of `from` and `to`, out of 254 that a workload can have" \
	}
static const struct weft_column policy_list_columns[] = { POLICY_COLUMNS, END };
static const struct weft_column policy_show_columns[] = {
	POLICY_COLUMNS,
	{ "rules", "Rules", WEFT_COLUMN_TEXT, "what it asks for; rules are parted by `|`, one of them has to match" },
	END,
};
static const char *const policy_kinds[] = { "AuthorizationPolicy", "PeerAuthentication", NULL };
static const struct weft_argument policy_show_arguments[] = {
	{ WEFT_ARG_NAME, WEFT_ARGUMENT_PAIR, NULL, "NS/NAME", NULL, true, "the policy" },
	{ WEFT_ARG_KIND, WEFT_ARGUMENT_CHOICE, "kind", "KIND", policy_kinds, false, "its kind, where both have one of that name" },
	END,
};

static const struct weft_column workload_list_columns[] = { WORKLOAD_COLUMNS(IN_JSON), END };
static const struct weft_column workload_show_columns[] = { WORKLOAD_COLUMNS(IN_TEXT), END };

#define CONN_FILTERS                                                                                                   \
	ARG_SERVICE("connections"), { WEFT_ARG_POD,                                                                    \
				      WEFT_ARGUMENT_PAIR,                                                              \
				      "pod",                                                                           \
				      "NS/NAME",                                                                       \
				      NULL,                                                                            \
				      false,                                                                           \
				      "only connections from or to this workload" },                                   \
	{                                                                                                              \
		WEFT_ARG_PROTOCOL, WEFT_ARGUMENT_CHOICE, "protocol", "PROTOCOL", protocols, false,                     \
			"only connections of this protocol"                                                            \
	}
static const struct weft_argument conn_list_arguments[] = {
	CONN_FILTERS,
	{ WEFT_ARG_STATE, WEFT_ARGUMENT_CHOICE, "state", "STATE", states, false, "only connections in this state" },
	END,
};
static const struct weft_argument conn_watch_arguments[] = {
	CONN_FILTERS,
	{ WEFT_ARG_COUNT, WEFT_ARGUMENT_NUMBER, "count", "N", NULL, false, "end after so many records" },
	END,
};
static const struct weft_column conn_list_columns[] = {
	{ "protocol", "Proto", WEFT_COLUMN_TEXT, "`tcp` or `udp`" },
	{ "role", "Role", WEFT_COLUMN_TEXT, "`client`: the socket that connected; `server`: the one that accepted" },
	{ "source", "Source", WEFT_COLUMN_TEXT,
	  "workload that connected, NAMESPACE/NAME, or its address if nobody knows it" },
	{ "destination", "Destination", WEFT_COLUMN_TEXT, "workload that was connected to, or its address" },
	{ "service", "Service", WEFT_COLUMN_TEXT, "NAMESPACE/NAME:PORT" },
	{ "frontend", "Frontend", WEFT_COLUMN_TEXT,
	  "what the application asked for, ADDRESS:PORT; left out if nothing was translated" },
	{ "local", "Local", WEFT_COLUMN_TEXT, "the socket's own ADDRESS:PORT" },
	{ "remote", "Remote", WEFT_COLUMN_TEXT, "the peer's ADDRESS:PORT" },
	{ "state", "State", WEFT_COLUMN_TEXT, "state of the socket" },
	{ "security", "Security", WEFT_COLUMN_TEXT,
	  "`mutual_tls`: a handshake was made; `attested`: both ends are pods of this node, known by their namespaces; `none`; left out if no "
	  "agent can be asked" },
	{ "peer_identity", "Peer identity", WEFT_COLUMN_TEXT, "SPIFFE id that the other end has proved, of `mutual_tls`" },
	{ "source_identity", NULL, WEFT_COLUMN_TEXT, "SPIFFE id of who connected" },
	{ "destination_identity", NULL, WEFT_COLUMN_TEXT, "SPIFFE id of who was connected to" },
	{ "age_ns", "Age", WEFT_COLUMN_NS, "time since connect or accept, in nanoseconds" },
	{ "sent", "Sent", WEFT_COLUMN_BYTES, "payload bytes sent" },
	{ "received", "Received", WEFT_COLUMN_BYTES, "payload bytes received" },
	{ "rtt_us", "Rtt", WEFT_COLUMN_US, "smoothed round-trip time in microseconds (tcp)" },
	{ "min_rtt_us", NULL, WEFT_COLUMN_US, "lowest round-trip time in microseconds (tcp)" },
	{ "retransmits", NULL, WEFT_COLUMN_NUMBER, "segments sent again (tcp)" },
	{ "endpoint", NULL, WEFT_COLUMN_NUMBER, "id of the endpoint" },
	{ "cookie", NULL, WEFT_COLUMN_NUMBER, "socket cookie" },
	{ "netns", NULL, WEFT_COLUMN_NUMBER, "cookie of the network namespace" },
	{ "netns_inode", NULL, WEFT_COLUMN_NUMBER, "inode of the network namespace, as /proc/PID/ns/net shows it" },
	END,
};
static const struct weft_column conn_watch_columns[] = {
	{ "type", "Type", WEFT_COLUMN_TEXT,
	  "`opened`, `ended`, `refused` (by weft), or `lost`: records are missing here" },
	{ "outcome", "Outcome", WEFT_COLUMN_TEXT,
	  "of `ended`: `closed`, `reset`, `refused`, `timed-out`, `abandoned`; of `refused`: the counter that names the reason" },
	{ "lost", NULL, WEFT_COLUMN_NUMBER, "of `lost`: how many" },
	{ "time_ns", NULL, WEFT_COLUMN_NS, "CLOCK_MONOTONIC in nanoseconds" },
	{ "protocol", "Proto", WEFT_COLUMN_TEXT, "`tcp` or `udp`" },
	{ "reporter", NULL, WEFT_COLUMN_TEXT, "`source` or `destination`: whose socket says so" },
	{ "source", "Source", WEFT_COLUMN_TEXT, "workload that connected, or its address" },
	{ "destination", "Destination", WEFT_COLUMN_TEXT, "workload that was connected to, or its address" },
	{ "service", "Service", WEFT_COLUMN_TEXT, "NAMESPACE/NAME:PORT" },
	{ "frontend", NULL, WEFT_COLUMN_TEXT, "what the application asked for; left out if nothing was translated" },
	{ "local", NULL, WEFT_COLUMN_TEXT, "the socket's own ADDRESS:PORT" },
	{ "remote", "Remote", WEFT_COLUMN_TEXT, "the peer's ADDRESS:PORT" },
	{ "sent", "Sent", WEFT_COLUMN_BYTES, "payload bytes sent" },
	{ "received", "Received", WEFT_COLUMN_BYTES, "payload bytes received" },
	{ "rtt_us", "Rtt", WEFT_COLUMN_US, "smoothed round-trip time in microseconds" },
	{ "min_rtt_us", NULL, WEFT_COLUMN_US, "lowest round-trip time in microseconds" },
	{ "retransmits", NULL, WEFT_COLUMN_NUMBER, "segments sent again" },
	{ "connect_ns", NULL, WEFT_COLUMN_NS, "connect to established, in nanoseconds" },
	{ "duration_ns", "Duration", WEFT_COLUMN_NS, "established to closed, in nanoseconds" },
	{ "endpoint", NULL, WEFT_COLUMN_NUMBER, "id of the endpoint" },
	{ "cookie", NULL, WEFT_COLUMN_NUMBER, "socket cookie" },
	{ "netns", NULL, WEFT_COLUMN_NUMBER, "cookie of the network namespace" },
	END,
};

static const struct weft_argument directory_arguments[] = {
	{ WEFT_ARG_DIR, WEFT_ARGUMENT_DIR, NULL, "DIR", NULL, true, "directory of YAML and JSON files" },
	END,
};
static const struct weft_argument ca_export_arguments[] = {
	{ WEFT_ARG_FILE, WEFT_ARGUMENT_TEXT, NULL, "FILE", NULL, true, "the file to write" },
	{ WEFT_ARG_DOMAIN, WEFT_ARGUMENT_TEXT, "domain", "NAME", NULL, false,
	  "trust domain of a CA that is not there yet; cluster.local if it is left out" },
	END,
};
static const struct weft_argument ca_join_arguments[] = {
	{ WEFT_ARG_FILE, WEFT_ARGUMENT_TEXT, NULL, "FILE", NULL, true, "the file of `weft ca export`" },
	END,
};
static const struct weft_argument ca_revoke_arguments[] = {
	{ WEFT_ARG_SERIAL, WEFT_ARGUMENT_TEXT, NULL, "SERIAL", NULL, true, "serial number that `weft ca export` printed" },
	END,
};
static const struct weft_column ca_export_columns[] = {
	{ "trust_domain", "Trust domain", WEFT_COLUMN_TEXT, "trust domain of the CA" },
	{ "file", "File", WEFT_COLUMN_TEXT, "file that was made" },
	{ "until", "Until", WEFT_COLUMN_TEXT, "until when a node can join with it" },
	{ "serial", "Serial", WEFT_COLUMN_TEXT, "serial number of the node's intermediate, for `weft ca revoke`: keep it" },
	{ "code", "Code", WEFT_COLUMN_TEXT, "what `weft ca join` asks for; it decrypts the file, carry it another way" },
	END,
};
static const struct weft_column ca_join_columns[] = {
	{ "trust_domain", "Trust domain", WEFT_COLUMN_TEXT, "trust domain of the CA that was joined" },
	END,
};
static const struct weft_column ca_rotate_columns[] = {
	{ "root", "Root", WEFT_COLUMN_TEXT, "what the new root does now: `believed`, or `signs`" },
	{ "next", "Next", WEFT_COLUMN_TEXT, "what is to be done next" },
	END,
};
static const struct weft_column ca_revoke_columns[] = {
	{ "serial", "Serial", WEFT_COLUMN_TEXT, "serial number that is revoked" },
	{ "next", "Next", WEFT_COLUMN_TEXT, "what is to be done next" },
	END,
};
static const struct weft_column config_list_columns[] = {
	{ "kind", "Kind", WEFT_COLUMN_TEXT, "kind of the resource" },
	{ "namespace", "Namespace", WEFT_COLUMN_TEXT, "namespace" },
	{ "name", "Name", WEFT_COLUMN_TEXT, "name" },
	{ "state", "State", WEFT_COLUMN_TEXT, "`in force`, or `last good`: its newest version was refused" },
	{ "file", "File", WEFT_COLUMN_TEXT, "file it comes from" },
	{ "line", "Line", WEFT_COLUMN_NUMBER, "line of the file" },
	END,
};
#define PROBLEM_COLUMNS                                                                                                \
	{ "severity", "Severity", WEFT_COLUMN_TEXT,                                                                    \
	  "`error`: the resource is refused; `notice`: something of it is not honoured" },                             \
		{ "file", "File", WEFT_COLUMN_TEXT, "file" }, { "line", "Line", WEFT_COLUMN_NUMBER, "line" },          \
		{ "resource", "Resource", WEFT_COLUMN_TEXT, "resource" },                                              \
		{ "path", "Path", WEFT_COLUMN_TEXT, "JSON path within the resource" },                                 \
	{                                                                                                              \
		"text", "Problem", WEFT_COLUMN_TEXT, "what is wrong and what was expected"                             \
	}
static const struct weft_column config_problems_columns[] = { PROBLEM_COLUMNS, END };
static const struct weft_column config_check_columns[] = {
	{ "ok", "Ok", WEFT_COLUMN_YES, "whether nothing would be refused" },
	{ "resources", "Resources", WEFT_COLUMN_NUMBER, "resources read" },
	{ "errors", "Errors", WEFT_COLUMN_NUMBER, "of the problems" },
	{ "notices", "Notices", WEFT_COLUMN_NUMBER, "of the problems" },
	{ "problems", "Problems", WEFT_COLUMN_LIST, "in order of file and line", config_problems_columns },
	END,
};
static const struct weft_column config_diff_columns[] = {
	{ "change", "Change", WEFT_COLUMN_TEXT, "`added`, `removed` or `changed`" },
	{ "what", "What", WEFT_COLUMN_TEXT, "`service`, `frontend` or `endpoint`" },
	{ "service", "Service", WEFT_COLUMN_TEXT, "NAMESPACE/NAME" },
	{ "text", "Detail", WEFT_COLUMN_TEXT, "what it is, or was" },
	END,
};

static const struct weft_column feature_list_columns[] = {
	{ "name", "Name", WEFT_COLUMN_TEXT, "name, as `weftd --without-feature` takes it" },
	{ "there", "There", WEFT_COLUMN_YES, "whether weft uses it" },
	{ "forced", "Forced", WEFT_COLUMN_YES, "whether it was taken away by an option" },
	{ "need", "Need", WEFT_COLUMN_TEXT, "`floor`: the agent does not start without it; `optional`" },
	{ "effect", "Effect", WEFT_COLUMN_TEXT, "what weft does, with or without it as the case is" },
	END,
};

static const struct weft_column prog_list_columns[] = {
	{ "name", "Name", WEFT_COLUMN_TEXT, "name of the program" },
	{ "attach", "Attach point", WEFT_COLUMN_TEXT, "where it is attached" },
	{ "id", "Id", WEFT_COLUMN_NUMBER, "the kernel's id of the program" },
	{ "link_id", "Link", WEFT_COLUMN_NUMBER, "the kernel's id of the link" },
	{ "run_count", "Runs", WEFT_COLUMN_NUMBER, "times run; 0 unless sysctl kernel.bpf_stats_enabled is 1" },
	{ "run_ns", "Run time", WEFT_COLUMN_NS, "time spent in it, in nanoseconds" },
	{ "average_ns", "Average", WEFT_COLUMN_NS, "nanoseconds per run" },
	{ "verified_instructions", "Verified", WEFT_COLUMN_NUMBER,
	  "instructions that the verifier walked; left out where the kernel does not tell" },
	{ "jited_bytes", "Code", WEFT_COLUMN_BYTES, "bytes of machine code" },
	{ "age_ns", "Age", WEFT_COLUMN_NS, "time since it was loaded, in nanoseconds" },
	{ "target", NULL, WEFT_COLUMN_TEXT, "cgroup that it is attached to, where that can be told" },
	END,
};

static const struct weft_column map_list_columns[] = {
	{ "name", "Name", WEFT_COLUMN_TEXT, "name" },
	{ "id", "Id", WEFT_COLUMN_NUMBER, "the kernel's id" },
	{ "entries", "Entries", WEFT_COLUMN_NUMBER, "entries in use; left out for an array, which has all of them from the start" },
	{ "max_entries", "Max", WEFT_COLUMN_NUMBER, "entries that there is room for" },
	{ "fill", "Fill", WEFT_COLUMN_SHARE, "entries by max_entries, 0 to 1; left out for an array" },
	{ "bytes", "Memory", WEFT_COLUMN_BYTES, "memory that the kernel charges" },
	{ "key_size", NULL, WEFT_COLUMN_NUMBER, "bytes of a key" },
	{ "value_size", NULL, WEFT_COLUMN_NUMBER, "bytes of a value" },
	{ "sentence", "What it holds", WEFT_COLUMN_TEXT, "what it holds" },
	END,
};

static const struct weft_argument metric_service_arguments[] = { ARG_SERVICE("rows"), END };
static const struct weft_column metric_list_columns[] = {
	{ "name", "Name", WEFT_COLUMN_TEXT, "name of the counter; `reason` in weft_refused_total and its kin" },
	{ "kind", "Kind", WEFT_COLUMN_TEXT,
	  "`refused`: a connect or datagram failed by our decision; `passed`: left alone; `lost`: not recorded" },
	{ "value", "Value", WEFT_COLUMN_NUMBER, "since the maps were made" },
	{ "sentence", "Meaning", WEFT_COLUMN_TEXT, "what it counts" },
	END,
};
static const struct weft_column metric_show_columns[] = {
	{ "reporter", "Reporter", WEFT_COLUMN_TEXT, "`source` or `destination`: whose sockets say so" },
	{ "source", "Source", WEFT_COLUMN_TEXT, "workload that connected; left out if unknown" },
	{ "service", "Service", WEFT_COLUMN_TEXT, "NAMESPACE/NAME:PORT" },
	{ "destination", "Destination", WEFT_COLUMN_TEXT, "workload that was connected to" },
	{ "protocol", "Proto", WEFT_COLUMN_TEXT, "`tcp` or `udp`" },
	{ "outcome", "Outcome", WEFT_COLUMN_TEXT,
	  "`open`: what live connections have reported so far; `closed`, `reset`, `refused`, `timed-out`, `abandoned`" },
	{ "security", "Security", WEFT_COLUMN_TEXT, "`mutual_tls`: carried between agents; `attested`: between attached pods of this node; `none`" },
	{ "opened", "Opened", WEFT_COLUMN_NUMBER, "connections established" },
	{ "ended", "Ended", WEFT_COLUMN_NUMBER, "connections ended this way" },
	{ "sent", "Sent", WEFT_COLUMN_BYTES, "payload bytes sent by the reporter's sockets" },
	{ "received", "Received", WEFT_COLUMN_BYTES, "payload bytes received by them" },
	{ "retransmits", "Resent", WEFT_COLUMN_NUMBER, "segments sent again" },
	{ "duration_ns", NULL, WEFT_COLUMN_NS, "sum of durations of the ended ones, in nanoseconds" },
	END,
};
#define LATENCY(prefix, Header, what)                                                                                  \
	{ prefix "_count", NULL, WEFT_COLUMN_NUMBER, "values counted: " what },                                        \
		{ prefix "_p50_us", Header " p50", WEFT_COLUMN_US,                                                     \
		  "median, in microseconds, interpolated within a power of two" },                                     \
	{                                                                                                              \
		prefix "_p99_us", Header " p99", WEFT_COLUMN_US, "99th percentile, likewise"                           \
	}
static const struct weft_column metric_latency_columns[] = {
	{ "service", "Service", WEFT_COLUMN_TEXT, "NAMESPACE/NAME:PORT" },
	{ "reporter", "Reporter", WEFT_COLUMN_TEXT, "`source` or `destination`: whose sockets say so" },
	LATENCY("connect", "Connect", "connect to established"),
	LATENCY("duration", "Duration", "established to closed"),
	LATENCY("rtt", "Rtt", "smoothed round-trip time at close"),
	END,
};

static const struct weft_column status_instance_columns[] = {
	{ "config", "Config", WEFT_COLUMN_TEXT, "configuration directory" },
	{ "cgroup", "Cgroup", WEFT_COLUMN_TEXT, "cgroup2 subtree" },
	{ "pins", "Pins", WEFT_COLUMN_TEXT, "pin folder" },
	{ "state", "State", WEFT_COLUMN_TEXT, "state folder" },
	{ "run", "Run", WEFT_COLUMN_TEXT, "run folder" },
	{ "metrics", "Metrics", WEFT_COLUMN_TEXT, "address of /metrics" },
	{ "metrics_error", "Problem", WEFT_COLUMN_TEXT, "why it is not served there yet; not there if it is" },
	END,
};
static const struct weft_column status_role_columns[] = {
	{ "role", "Role", WEFT_COLUMN_TEXT, "`init`, `main` or `control`" },
	{ "pid", "Pid", WEFT_COLUMN_NUMBER, "process" },
	{ "restarts", "Restarts", WEFT_COLUMN_NUMBER, "times it was started again" },
	{ "since", NULL, WEFT_COLUMN_NUMBER, "when it last started: seconds since 1970" },
	END,
};
static const struct weft_column status_config_columns[] = {
	{ "resources", "Resources", WEFT_COLUMN_NUMBER, "resources in force" },
	{ "refused", "Refused", WEFT_COLUMN_NUMBER, "resources refused" },
	{ "notices", "Notices", WEFT_COLUMN_NUMBER, "notices" },
	{ "generation", "Generation", WEFT_COLUMN_NUMBER, "changes applied since the agent started" },
	{ "applied_ns", NULL, WEFT_COLUMN_NS, "when the last change was applied: CLOCK_REALTIME in nanoseconds" },
	END,
};
static const struct weft_column status_kernel_columns[] = {
	{ "abi", "ABI", WEFT_COLUMN_NUMBER, "version of the pinned maps" },
	{ "bypass", "Bypass", WEFT_COLUMN_YES, "whether new connections are left alone" },
	{ "metrics", "Metrics", WEFT_COLUMN_YES, "whether connections are counted" },
	{ "watchers", "Watchers", WEFT_COLUMN_NUMBER, "who watches connections" },
	{ "programs", "Programs", WEFT_COLUMN_NUMBER, "programs attached" },
	{ "frontends", "Frontends", WEFT_COLUMN_NUMBER, "frontends" },
	{ "endpoints", "Endpoints", WEFT_COLUMN_NUMBER, "endpoints that are not free" },
	{ "live", "Live", WEFT_COLUMN_NUMBER, "connections that sockets of this node hold to endpoints" },
	{ "age_ns", "Age", WEFT_COLUMN_NS, "time since the maps were made, in nanoseconds" },
	END,
};
static const struct weft_column status_columns[] = {
	{ "agent", "Agent", WEFT_COLUMN_TEXT, "`ready`, `starting`, or why it does not answer" },
	{ "version", "Version", WEFT_COLUMN_TEXT, "the agent's version" },
	{ "node", "Node", WEFT_COLUMN_TEXT, "name of this node" },
	{ "ready", NULL, WEFT_COLUMN_YES, "whether the agent has applied its configuration" },
	{ "adopted", "Adopted", WEFT_COLUMN_YES, "whether it found pinned state and took it over" },
	{ "services", "Services", WEFT_COLUMN_NUMBER, "services, in the agent's count" },
	{ "endpoints", "Endpoints", WEFT_COLUMN_NUMBER, "endpoints, in the agent's count" },
	{ "workloads", "Workloads", WEFT_COLUMN_NUMBER, "workloads, in the agent's count" },
	{ "watchers", "Watchers", WEFT_COLUMN_NUMBER, "clients of `conn watch`" },
	{ "instance", "Instance", WEFT_COLUMN_OBJECT, "where it lives", status_instance_columns },
	{ "config", "Config", WEFT_COLUMN_OBJECT, "mesh configuration", status_config_columns },
	{ "roles", "Roles", WEFT_COLUMN_LIST, "the agent's processes", status_role_columns },
	{ "pins", "Pins", WEFT_COLUMN_TEXT, "`there`, or why they cannot be read" },
	{ "kernel", "Kernel", WEFT_COLUMN_OBJECT, "what is pinned, with or without an agent", status_kernel_columns },
	END,
};

static const struct weft_argument log_level_arguments[] = {
	{ WEFT_ARG_LEVEL, WEFT_ARGUMENT_CHOICE, NULL, "LEVEL", levels, false, "the level to have from now on" },
	END,
};
static const struct weft_column log_level_columns[] = {
	{ "level", "Level", WEFT_COLUMN_TEXT, "`error`, `warning`, `info` or `debug`" },
	END,
};
static const struct weft_column bypass_columns[] = {
	{ "bypass", "Bypass", WEFT_COLUMN_YES, "whether new connections are left alone" },
	END,
};

static const struct weft_argument top_arguments[] = {
	{ WEFT_ARG_BATCH, WEFT_ARGUMENT_FLAG, "batch", NULL, NULL, false,
	  "print one table after another instead of taking the terminal over" },
	{ WEFT_ARG_COUNT, WEFT_ARGUMENT_NUMBER, "count", "N", NULL, false, "end after so many looks" },
	{ WEFT_ARG_INTERVAL, WEFT_ARGUMENT_NUMBER, "interval", "MS", NULL, false,
	  "milliseconds between two looks, 1000 without it" },
	{ WEFT_ARG_SORT, WEFT_ARGUMENT_CHOICE, "sort", "COLUMN", sorts, false, "what to sort by, `live` without it" },
	END,
};
static const struct weft_column top_columns[] = {
	{ "service", "Service", WEFT_COLUMN_TEXT, "NAMESPACE/NAME:PORT" },
	{ "live", "Live", WEFT_COLUMN_NUMBER, "connections that sockets of this node hold to its endpoints" },
	{ "opened_per_s", "New/s", WEFT_COLUMN_RATE, "connections established a second" },
	{ "failed_per_s", "Failed/s", WEFT_COLUMN_RATE, "connections refused, timed out, abandoned or reset a second" },
	{ "bytes_per_s", "Bytes/s", WEFT_COLUMN_BYTES,
	  "payload bytes a second, both directions, as connections report them" },
	{ "rtt_p50_us", "Rtt p50", WEFT_COLUMN_US,
	  "median round-trip time of the connections that ended meanwhile, in microseconds" },
	END,
};

static const struct weft_argument explain_arguments[] = {
	{ WEFT_ARG_FROM, WEFT_ARGUMENT_CLIENT, "from", "POD", NULL, true,
	  "the client: NAMESPACE/NAME, or `host` for the node itself" },
	{ WEFT_ARG_TO, WEFT_ARGUMENT_TARGET, "to", "ADDR:PORT", NULL, true, "what the application would connect to" },
	{ WEFT_ARG_PROTOCOL, WEFT_ARGUMENT_CHOICE, "protocol", "PROTOCOL", protocols, false, "tcp without it" },
	END,
};
static const struct weft_column explain_step_columns[] = {
	{ "step", "Step", WEFT_COLUMN_TEXT, "what the kernel looks at" },
	{ "result", "Result", WEFT_COLUMN_TEXT, "what comes of it: `go on` or the end of the walk" },
	{ "because", "Because", WEFT_COLUMN_TEXT, "what it found" },
	END,
};
static const struct weft_column explain_candidate_columns[] = {
	{ "id", "Id", WEFT_COLUMN_NUMBER, "id of the endpoint" },
	{ "address", "Address", WEFT_COLUMN_TEXT, "its address" },
	{ "port", "Port", WEFT_COLUMN_NUMBER, "its port" },
	{ "state", "State", WEFT_COLUMN_TEXT, "its state" },
	{ "workload", "Workload", WEFT_COLUMN_TEXT, "workload behind it" },
	{ "weight", "Weight", WEFT_COLUMN_NUMBER, "its weight" },
	{ "live", "Live", WEFT_COLUMN_NUMBER, "connections that sockets of this node hold to it" },
	{ "share", "By weight", WEFT_COLUMN_SHARE, "probability by weight alone" },
	{ "probability", "Probability", WEFT_COLUMN_SHARE,
	  "probability of the next connect, with live connections and affinity" },
	END,
};
static const struct weft_column explain_columns[] = {
	{ "from", "From", WEFT_COLUMN_TEXT, "the client" },
	{ "to", "To", WEFT_COLUMN_TEXT, "the destination, ADDRESS:PORT" },
	{ "protocol", "Protocol", WEFT_COLUMN_TEXT, "`tcp` or `udp`" },
	{ "steps", "Steps", WEFT_COLUMN_LIST, "in the kernel's order", explain_step_columns },
	{ "candidates", "Candidates", WEFT_COLUMN_LIST,
	  "endpoints that may be chosen; left out if it does not come to a choice", explain_candidate_columns },
	{ "verdict", NULL, WEFT_COLUMN_TEXT, "`translate`, `pass` (left alone) or `refuse`" },
	{ "sentence", "Verdict", WEFT_COLUMN_TEXT, "the verdict in a sentence" },
	END,
};

static const struct weft_column version_columns[] = {
	{ "version", "Version", WEFT_COLUMN_TEXT, "version of this program" },
	{ "abi", "ABI", WEFT_COLUMN_NUMBER, "version of the pinned maps that it reads" },
	END,
};

static const struct weft_argument help_arguments[] = {
	{ WEFT_ARG_OBJECT, WEFT_ARGUMENT_TEXT, NULL, "OBJECT", NULL, false, "the object" },
	{ WEFT_ARG_VERB, WEFT_ARGUMENT_TEXT, NULL, "VERB", NULL, false, "one of its verbs" },
	END,
};

const struct weft_command weft_commands[] = {
	{ "service", "list", service_list_arguments, WEFT_NEEDS_MAPS, WEFT_FORM_TABLE,
	  "services with their addresses and the endpoints in use",
	  "A row is one port of one service, with a line for each of its addresses.", service_list_columns,
	  weft_cmd_service },
	{ "service", "show", service_show_arguments, WEFT_NEEDS_MAPS, WEFT_FORM_CARDS,
	  "one service with every address and every endpoint in use", "One block for each port of the service.",
	  service_show_columns, weft_cmd_service },
	{ "endpoint", "list", endpoint_list_arguments, WEFT_NEEDS_MAPS, WEFT_FORM_TABLE,
	  "endpoints, in use or on their way out", "Sorted by service, address and port.", endpoint_list_columns,
	  weft_cmd_endpoint_list },
	{ "endpoint", "show", endpoint_show_arguments, WEFT_NEEDS_MAPS, WEFT_FORM_CARD,
	  "one endpoint and the addresses that may choose it", NULL, endpoint_show_columns, weft_cmd_endpoint_show },
	{ "workload", "list", workload_list_arguments, WEFT_NEEDS_MAPS | WEFT_USES_AGENT, WEFT_FORM_TABLE,
	  "workloads with their addresses and namespaces", NULL, workload_list_columns, weft_cmd_workload },
	{ "workload", "show", workload_show_arguments, WEFT_NEEDS_MAPS | WEFT_USES_AGENT, WEFT_FORM_CARDS, "one workload", NULL,
	  workload_show_columns, weft_cmd_workload },
	{ "workload", "attach", workload_attach_arguments, WEFT_NEEDS_AGENT, WEFT_FORM_CARD, "takes a workload into the secure lane",
	  "Whatever the labels of its record say, until `workload detach`. The agent needs ports 15001 and 15008 in its network namespace.",
	  workload_change_columns,
	  weft_cmd_workload_attach },
	{ "workload", "detach", workload_show_arguments, WEFT_NEEDS_AGENT, WEFT_FORM_CARD, "ends what `workload attach` began",
	  "One that its labels enrol stays attached. Connections of its applications that the agent carries go on until they end.",
	  workload_change_columns, weft_cmd_workload_detach },
	{ "identity", "list", NULL, WEFT_NEEDS_AGENT, WEFT_FORM_TABLE, "identities that this node has certificates for", NULL,
	  identity_list_columns, weft_cmd_identity_list },
	{ "identity", "show", identity_show_arguments, WEFT_NEEDS_AGENT, WEFT_FORM_CARD, "one identity and its certificates", NULL,
	  identity_show_columns, weft_cmd_identity_show },
	{ "policy", "list", NULL, WEFT_NEEDS_AGENT, WEFT_FORM_TABLE, "policies that the agent has, and how many workloads each decides about",
	  "docs/POLICY.md says what they mean.", policy_list_columns, weft_cmd_policy_list },
	{ "policy", "show", policy_show_arguments, WEFT_NEEDS_AGENT, WEFT_FORM_CARD, "one policy and its rules", NULL, policy_show_columns,
	  weft_cmd_policy_show },
	{ "conn", "list", conn_list_arguments, WEFT_NEEDS_MAPS | WEFT_USES_AGENT, WEFT_FORM_TABLE,
	  "live connections of all network namespaces",
	  "A connection between two workloads of this node shows twice, once for each end. Several filters all have to hold.",
	  conn_list_columns, weft_cmd_conn_list },
	{ "conn", "watch", conn_watch_arguments, WEFT_NEEDS_AGENT, WEFT_FORM_STREAM,
	  "connections as they open, end and are refused",
	  "Records are made only while somebody watches; a row of type `lost` says how many could not be kept. In JSON "
	  "each record is an object on a line of its own.",
	  conn_watch_columns, weft_cmd_conn_watch },
	{ "config", "list", NULL, WEFT_NEEDS_AGENT, WEFT_FORM_TABLE, "resources in force", NULL, config_list_columns,
	  weft_cmd_config_list },
	{ "config", "problems", NULL, WEFT_NEEDS_AGENT, WEFT_FORM_TABLE, "what was refused, and what is not honoured",
	  NULL, config_problems_columns, weft_cmd_config_problems },
	{ "config", "check", directory_arguments, WEFT_NEEDS_WEFTD, WEFT_FORM_CARD,
	  "reads a directory and says what would be refused",
	  "Nothing is changed and no agent is needed. The exit status is 1 if anything would be refused.",
	  config_check_columns, weft_cmd_config_check },
	{ "config", "diff", directory_arguments, WEFT_NEEDS_WEFTD, WEFT_FORM_TABLE,
	  "what a directory would change, in services and endpoints", "Nothing is changed.", config_diff_columns,
	  weft_cmd_config_diff },
	{ "feature", "list", NULL, WEFT_NEEDS_AGENT, WEFT_FORM_TABLE,
	  "kernel features, and what is done where one is missing", NULL, feature_list_columns, weft_cmd_feature_list },
	{ "prog", "list", NULL, WEFT_NEEDS_MAPS, WEFT_FORM_TABLE, "programs that are attached", NULL, prog_list_columns,
	  weft_cmd_prog_list },
	{ "map", "list", NULL, WEFT_NEEDS_MAPS, WEFT_FORM_TABLE, "maps and how full they are", NULL, map_list_columns,
	  weft_cmd_map_list },
	{ "metric", "list", NULL, WEFT_NEEDS_MAPS, WEFT_FORM_TABLE, "counters of refusals, passes and losses", NULL,
	  metric_list_columns, weft_cmd_metric_list },
	{ "metric", "show", metric_service_arguments, WEFT_NEEDS_MAPS, WEFT_FORM_TABLE,
	  "connections, bytes and outcomes by workload and service", NULL, metric_show_columns, weft_cmd_metric_show },
	{ "metric", "latency", metric_service_arguments, WEFT_NEEDS_MAPS, WEFT_FORM_TABLE,
	  "connect latency, duration and round-trip time by service", NULL, metric_latency_columns,
	  weft_cmd_metric_latency },
	{ "status", NULL, NULL, WEFT_NEEDS_NOTHING | WEFT_USES_AGENT, WEFT_FORM_CARD, "the agent and what is pinned",
	  "Says what it can find out; fails only if neither the agent answers nor anything is pinned.", status_columns,
	  weft_cmd_status },
	{ "log", "level", log_level_arguments, WEFT_NEEDS_AGENT, WEFT_FORM_CARD, "shows or sets the agent's log level",
	  NULL, log_level_columns, weft_cmd_log_level },
	{ "bypass", "show", NULL, WEFT_NEEDS_MAPS, WEFT_FORM_CARD, "whether the node is in bypass", NULL,
	  bypass_columns, weft_cmd_bypass_show },
	{ "bypass", "on", NULL, WEFT_NEEDS_AGENT, WEFT_FORM_CARD, "leaves new connections alone from now on",
	  "Established connections go on, and keep the address that their application asked for.", bypass_columns,
	  weft_cmd_bypass_on },
	{ "bypass", "off", NULL, WEFT_NEEDS_AGENT, WEFT_FORM_CARD, "translates new connections again", NULL,
	  bypass_columns, weft_cmd_bypass_off },
	{ "top", NULL, top_arguments, WEFT_NEEDS_MAPS, WEFT_FORM_TABLE, "a live view of services",
	  "On a terminal: `q` ends, `l` `r` `f` `b` `t` `n` sort by live connections, rate, failures, bytes, round-trip time, name. "
	  "In JSON each look is an array on a line of its own, and `batch` is implied, as it is where the output is no terminal.",
	  top_columns, weft_cmd_top },
	{ "explain", NULL, explain_arguments, WEFT_NEEDS_MAPS | WEFT_USES_AGENT, WEFT_FORM_CARD,
	  "what a connect would do, step by step, and why",
	  "Walks the pinned maps in the order of the kernel's programs; who is who and what policies say is the agent's answer. Nothing is sent.", explain_columns,
	  weft_cmd_explain },
	{ "ca", "export", ca_export_arguments, WEFT_NEEDS_WEFTD, WEFT_FORM_CARD,
	  "writes a file with which one other node joins this one's CA",
	  "The file has an intermediate certificate of the other node's own, with its key, encrypted by the code. "
	  "The root's key stays here. A CA that is not there yet is made.",
	  ca_export_columns, weft_cmd_ca_export },
	{ "ca", "join", ca_join_arguments, WEFT_NEEDS_WEFTD, WEFT_FORM_CARD, "joins the CA of another node",
	  "Reads the code from standard input. Again, with a new file, for a new intermediate or a new root.",
	  ca_join_columns, weft_cmd_ca_join },
	{ "ca", "rotate", NULL, WEFT_NEEDS_WEFTD, WEFT_FORM_CARD, "replaces the CA's root, in two steps",
	  "The first makes the next root, which is believed and does not sign yet; the second has it sign. "
	  "The old one is believed until it ends. Have the other nodes join anew after each.",
	  ca_rotate_columns, weft_cmd_ca_rotate },
	{ "ca", "revoke", ca_revoke_arguments, WEFT_NEEDS_WEFTD, WEFT_FORM_CARD,
	  "takes back what was given to a node by `weft ca export`", NULL, ca_revoke_columns, weft_cmd_ca_revoke },
	{ "uninstall", NULL, NULL, WEFT_NEEDS_WEFTD, WEFT_FORM_NONE,
	  "removes the instance's programs, maps and folders",
	  "Refused while an agent holds the instance. Established connections go on to the endpoint that they have.",
	  NULL, weft_cmd_uninstall },
	{ "version", NULL, NULL, WEFT_NEEDS_NOTHING, WEFT_FORM_CARD, "the version", NULL, version_columns,
	  weft_cmd_version },
	{ "help", NULL, help_arguments, WEFT_NEEDS_NOTHING, WEFT_FORM_NONE,
	  "all objects, the verbs of one, or one command", NULL, NULL, weft_cmd_help },
};
const size_t weft_commands_count = WEFT_ARRAY_SIZE(weft_commands);
