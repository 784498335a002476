/* SPDX-License-Identifier: Apache-2.0 */
/* What OpenSSL found wrong is told in our own sentence, and is not left in its queue for whoever asks it next. */
#ifndef WEFT_TLS_QUIET_H
#define WEFT_TLS_QUIET_H

#include <openssl/err.h>

#include "base/cleanup.h"

static inline void weft_tls_forgetp(const int *mark)
{
	(void)mark;
	ERR_pop_to_mark();
}
/* Among a function's first declarations: what was in the queue before stays. */
#define WEFT_TLS_QUIET weft_cleanup(weft_tls_forgetp) const int quiet_ = ERR_set_mark()

#endif
