/* SPDX-License-Identifier: Apache-2.0 */
/* weftd: what was asked for, and which role this process is. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>

#include "agent/check.h"
#include "agent/roles.h"
#include "base/log.h"
#include "version.h"

static int run(struct weft_options *options)
{
	signal(SIGPIPE, SIG_IGN);
	/* What a whole configuration passed through goes back to the kernel: glibc would learn from the first to keep the next. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	weft_log_set_role(weft_agent_role_name(options->role));
	weft_log_set_level(options->log_level);
	switch (options->role) {
	case WEFT_AGENT_MAIN:
		return weft_role_main_run(options);
	case WEFT_AGENT_CONTROL:
		return weft_role_control_run(options);
	case WEFT_AGENT_KEYS:
		return weft_role_keys_run(options);
	case WEFT_AGENT_PROXY:
		return weft_role_proxy_run(options);
	default:
		return weft_init_run(options);
	}
}

int main(int argc, char **argv)
{
	struct weft_options options;
	struct weft_err err;

	if (weft_options_parse(argc, argv, &options, &err) < 0) {
		fprintf(stderr, "weftd: %s\n", err.text);
		return WEFT_EXIT_USAGE;
	}
	switch (options.action) {
	case WEFT_ACTION_HELP:
		weft_options_help(stdout);
		return WEFT_EXIT_OK;
	case WEFT_ACTION_VERSION:
		puts("weftd " WEFT_VERSION);
		return WEFT_EXIT_OK;
	case WEFT_ACTION_CHECK:
		return weft_check_run(&options);
	case WEFT_ACTION_DIFF:
		return weft_diff_run(&options);
	case WEFT_ACTION_UNINSTALL:
		return weft_uninstall_run(&options);
	case WEFT_ACTION_CA_EXPORT:
	case WEFT_ACTION_CA_JOIN:
	case WEFT_ACTION_CA_ROTATE:
	case WEFT_ACTION_CA_REVOKE:
		return weft_ca_run(&options);
	case WEFT_ACTION_RUN:
		break;
	}
	return run(&options);
}
