/* SPDX-License-Identifier: Apache-2.0 */
/* A role whose work is not part of this build: confined, joined to the others, and idle. */
#ifndef WEFT_AGENT_ROLE_ABSENT_H
#define WEFT_AGENT_ROLE_ABSENT_H

#include "agent/roles.h"

int weft_role_absent_run(const struct weft_options *options);

#endif
