/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What role control may still ask of the kernel once it has what it needs: an
 * allow-list of system calls, without one that makes a process, a socket or
 * executable memory; and, where the kernel has Landlock, no file to write but
 * below the state folder. Its own uid decides what it may read.
 */
#ifndef WEFT_AGENT_SANDBOX_H
#define WEFT_AGENT_SANDBOX_H

#include "base/err.h"

/*
 * For this process and for good; it must have no_new_privs. `state` is the state folder. What is not allowed fails with
 * EPERM (files: EACCES), and the kernel's audit log names it. -errno: the process is not confined as it should be.
 */
int weft_sandbox_enter(int state, struct weft_err *err);

#endif
