/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates that somebody else renews, as files: files/<namespace>/<service account>/ in the folder of `keys`, each with
 * SPIFFE helper's names (svid.pem, svid_key.pem, svid_bundle.pem: spiffe/spiffe-helper README) or cert-manager's (tls.crt,
 * tls.key, ca.crt), and perhaps a crl.pem. What does not fit together is not taken up: the last good pair stays.
 */
#ifndef WEFT_TLS_FILES_H
#define WEFT_TLS_FILES_H

#include <systemd/sd-event.h>

#include "tls/signer.h"

#define WEFT_FILES_FOLDER "files"

/* `dir` is the folder of `keys`, which stays the caller's and open; `files` in it may be a link, and may come later. */
int weft_files_signer_new(sd_event *loop, int dir, const char *domain, const struct weft_signer_events *events,
			  struct weft_signer **ret_signer, struct weft_err *err);

#endif
