/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded CA, in a folder of its own (docs/IDENTITY.md lists the files): a root, whose key stays on the node where it
 * was made, and one intermediate a node, which signs that node's leaves. Made when it is first needed. What a person does
 * to it (export, join, rotate, revoke) changes files, each at once, and a running signer takes them up by itself.
 */
#ifndef WEFT_TLS_CA_H
#define WEFT_TLS_CA_H

#include <systemd/sd-event.h>
#include <time.h>

#include "base/buf.h"
#include "tls/signer.h"

#define WEFT_CA_CODE_SIZE 72 /* of an export's code as text, with its NUL */

/*
 * A signer of the CA in `dir`, which stays the caller's and open; made if there is none. -EEXIST: it is there for another trust
 * domain; -EPERM: folder or files may be read by others.
 */
int weft_ca_signer_new(sd_event *loop, int dir, const char *domain, const struct weft_signer_events *events,
		       struct weft_signer **ret_signer, struct weft_err *err);

/* What weftd does to a folder; `dir` is open and locked by nobody, `now` the time. */

/* Makes it before an agent does. -EEXIST: it is there, for this trust domain or another. */
int weft_ca_make(int dir, const char *domain, time_t now, struct weft_err *err);

struct weft_ca_export {
	char code[WEFT_CA_CODE_SIZE]; /* decrypts the bundle: to be carried another way than it */
	char serial[41]; /* of the new intermediate, for weft_ca_revoke() */
	char domain[256];
	time_t until; /* that it may be joined with */
};
/* A new intermediate for another node, with what that node is to believe, encrypted. -ENOENT: there is no CA. */
int weft_ca_export(int dir, time_t now, struct weft_buf *bundle, struct weft_ca_export *ret_export, struct weft_err *err);
/*
 * -EEXIST: there is a CA of its own; -EACCES: the wrong code, or the bundle was changed; -ESTALE: it is more than a day old, or older
 * than what this node has.
 */
int weft_ca_join(int dir, time_t now, const void *bundle, size_t size, const char *code, char ret_domain[static 256], struct weft_err *err);
/*
 * First call: makes the next root, which is believed and does not sign yet: export to all nodes anew. Second call: it signs; the
 * old one stays believed until it ends. *ret_signs tells which of them it was.
 */
int weft_ca_rotate(int dir, time_t now, bool *ret_signs, struct weft_err *err);
/* Puts the intermediate with this serial number (hexadecimal) on the CRLs of the root and of the one before it. -EALREADY. */
int weft_ca_revoke(int dir, time_t now, const char *serial, struct weft_err *err);

#endif
