/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/role_absent.h"

#include <errno.h>
#include <signal.h>
#include <systemd/sd-event.h>

#include "agent/place.h"
#include "agent/sandbox.h"
#include "base/cleanup.h"
#include "base/log.h"

static int on_init(sd_event_source *source, int fd, uint32_t revents, void *context)
{
	weft_close_on_exit int came = -1;
	struct weft_init_message message;

	(void)revents;
	(void)context;
	if (weft_init_receive(fd, &message, &came) == -ECONNRESET)
		return sd_event_exit(sd_event_source_get_event(source), WEFT_EXIT_OK);
	return 0;
}

int weft_role_absent_run(const struct weft_options *options)
{
	struct weft_err err = { "" };
	sd_event *loop = NULL;
	int r = sd_event_new(&loop);

	if (r >= 0)
		r = sd_event_add_signal(loop, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, NULL, NULL);
	if (r >= 0)
		r = signal(SIGINT, SIG_IGN) == SIG_ERR || signal(SIGHUP, SIG_IGN) == SIG_ERR ? -errno : 0;
	if (r >= 0)
		r = sd_event_add_io(loop, NULL, WEFT_FD_INIT, EPOLLIN, on_init, NULL);
	if (r >= 0 && (weft_place_become(options, options->role, &err) < 0 ||
		       weft_sandbox_enter(options->role, options->role == WEFT_AGENT_KEYS ? WEFT_FD_STATE : -1, -1, &err) < 0)) {
		weft_error("%s", err.text);
		sd_event_unref(loop);
		return WEFT_EXIT_PRIVILEGE;
	}
	if (r >= 0)
		r = sd_event_loop(loop);
	sd_event_unref(loop);
	return r < 0 ? WEFT_EXIT_FAILURE : r;
}
