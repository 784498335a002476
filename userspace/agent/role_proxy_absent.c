/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/role_absent.h"

int weft_role_proxy_run(const struct weft_options *options)
{
	return weft_role_absent_run(options);
}
