/* SPDX-License-Identifier: Apache-2.0 */
/* What `weftd` was asked to do. init hands its own arguments on to the roles, so that all read the same. */
#ifndef WEFT_AGENT_OPTIONS_H
#define WEFT_AGENT_OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "weft/abi/proxy.h"
#include "weft/abi/role.h"

/* Exit codes, documented in weftd(8). From USAGE on, starting again would end the same way. */
enum weft_exit {
	WEFT_EXIT_OK = 0,
	WEFT_EXIT_FAILURE = 1, /* --check found errors; --diff could not compare; something broke */
	WEFT_EXIT_USAGE = 2,
	WEFT_EXIT_HELD = 3, /* another agent holds the instance, or an overlapping one */
	WEFT_EXIT_KERNEL = 4, /* this kernel or its mounts lack what weft cannot do without */
	WEFT_EXIT_PRIVILEGE = 5,
};

enum weft_action {
	WEFT_ACTION_RUN = 0,
	WEFT_ACTION_CHECK,
	WEFT_ACTION_DIFF,
	WEFT_ACTION_UNINSTALL,
	WEFT_ACTION_CA_EXPORT,
	WEFT_ACTION_CA_JOIN,
	WEFT_ACTION_CA_ROTATE,
	WEFT_ACTION_CA_REVOKE,
	WEFT_ACTION_VERSION,
	WEFT_ACTION_HELP,
};

enum weft_agent_role {
	WEFT_AGENT_INIT = 0,
	WEFT_AGENT_MAIN,
	WEFT_AGENT_CONTROL,
	WEFT_AGENT_KEYS,
	WEFT_AGENT_PROXY, /* the only one that there is more than one of */
	WEFT_AGENT_MAX_
};

/* One for each process that there can be: a role's number, and proxy i behind all others. */
#define WEFT_AGENT_PROCESSES (WEFT_AGENT_PROXY + WEFT_PROXY_MAX)

/* "init", "main", "control", "keys", "proxy". */
const char *weft_agent_role_name(enum weft_agent_role role);

struct weft_options {
	enum weft_action action;
	enum weft_agent_role role;
	unsigned int proxy; /* of role proxy: its number */
	unsigned int proxies; /* how many there are when the secure lane is wanted, 1 to WEFT_PROXY_MAX */
	const char *directory; /* of --check, --diff; the file of --ca-export and --ca-join, the number of --ca-revoke */
	const char *trust_domain; /* of --ca-export; NULL: not given */
	bool json;
	const char *config;
	bool config_given;
	const char *node;
	const char *cgroup; /* NULL: the cgroup2 mount, found when it is needed */
	const char *pins;
	const char *state;
	const char *run;
	bool metrics; /* false: off */
	struct weft_addr metrics_addr;
	uint16_t metrics_port;
	const char *user; /* of control; NULL: `weft` if there is one, else `nobody` */
	uint64_t without_features; /* mask of enum weft_feature */
	struct weft_role_capacity capacity; /* 0: the default */
	struct weft_role_capacity ceiling; /* up to which a map is built anew larger when the configuration needs it; 0: never */
	enum weft_log_level log_level;
	char **argv; /* as given, for the roles */
	char host[HOST_NAME_MAX + 1];
};

/* Strings point into argv. -EINVAL with a sentence. */
int weft_options_parse(int argc, char **argv, struct weft_options *ret_options, struct weft_err *err);
/* The page that --help prints. */
void weft_options_help(FILE *out);

#endif
