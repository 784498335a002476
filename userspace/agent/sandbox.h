/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a role without capabilities may still ask of the kernel once it has what
 * it needs: an allow-list of system calls for each, without one that makes a
 * process, a socket or executable memory; and, where the kernel has Landlock,
 * a list of folders. Control may read what its uid may and write below the
 * state folder alone; keys has its own folder and no other file; a proxy has
 * none, and cannot open one.
 */
#ifndef WEFT_AGENT_SANDBOX_H
#define WEFT_AGENT_SANDBOX_H

#include "agent/options.h"
#include "base/err.h"

/*
 * For this process and for good; it must have no_new_privs, and `role` is control, keys or proxy. `folder` may be written
 * to, `readable` be read where that is not free; -1: none. What is not allowed fails with EPERM (files: EACCES), and the
 * kernel's audit log names it. What is opened late, such as OpenSSL's configuration or an event loop's timers, is opened before.
 * -errno: the process is not confined as it should be.
 */
int weft_sandbox_enter(enum weft_agent_role role, int folder, int readable, struct weft_err *err);

#endif
