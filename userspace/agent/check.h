/* SPDX-License-Identifier: Apache-2.0 */
/* What weftd does without becoming an agent. Each prints and returns the process's exit code. */
#ifndef WEFT_AGENT_CHECK_H
#define WEFT_AGENT_CHECK_H

#include "agent/options.h"

/* --check DIR: reads and compiles as the agent would, touches nothing. */
int weft_check_run(const struct weft_options *options);
/* --diff DIR: what would change if --config had the content of DIR. */
int weft_diff_run(const struct weft_options *options);
/* --uninstall: detaches, unpins, removes state and run folders. Not while an agent runs. */
int weft_uninstall_run(const struct weft_options *options);
/* --ca-export, --ca-join, --ca-rotate, --ca-revoke: changes the files of the embedded CA; an agent that runs takes them up. */
int weft_ca_run(const struct weft_options *options);

#endif
