/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SPIFFE ids: spiffe://<trust domain>/<path>, by the letter of SPIFFE-ID sections 2.1 to 2.4. What is not one is
 * refused, never repaired: two spellings of one id would be two identities to some and one to others.
 */
#ifndef WEFT_TLS_SPIFFE_H
#define WEFT_TLS_SPIFFE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define WEFT_SPIFFE_MAX 2048 /* bytes, section 2.3 */
#define WEFT_TRUST_DOMAIN_MAX 255

/* Points into the id that was parsed. */
struct weft_spiffe {
	const char *trust_domain;
	size_t trust_domain_size;
	const char *path; /* with its leading slash */
	size_t path_size;
	/* of the path /ns/<namespace>/sa/<service account>; empty for any other */
	const char *namespace;
	size_t namespace_size;
	const char *service_account;
	size_t service_account_size;
};

/* `size` bytes, which need not end in a NUL and may not contain one. -EINVAL with what is wrong. */
int weft_spiffe_parse(const char *id, size_t size, struct weft_spiffe *ret_spiffe, struct weft_err *err);
/* A trust domain by itself, as configuration has it. */
bool weft_trust_domain_valid(const char *domain, size_t size);

#endif
