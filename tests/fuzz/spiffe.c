/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken for a SPIFFE id has one reading: its parts, put together, are it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tls/spiffe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* To the byte, so that a sanitizer sees a read past the end. */
	weft_free_on_exit char *id = malloc(size ? size : 1);
	struct weft_spiffe spiffe;
	struct weft_err err = { 0 };

	if (!id)
		return 0;
	memcpy(id, data, size);
	if (weft_spiffe_parse(id, size, &spiffe, &err) < 0) {
		check(*err.text);
		for (const char *at = err.text; *at; at++)
			check(*at >= ' ' && *at <= '~');
		return 0;
	}
	check(size <= WEFT_SPIFFE_MAX && memcmp(id, "spiffe://", 9) == 0);
	check(spiffe.trust_domain == id + 9 && weft_trust_domain_valid(spiffe.trust_domain, spiffe.trust_domain_size));
	check(spiffe.path == spiffe.trust_domain + spiffe.trust_domain_size &&
	      spiffe.path + spiffe.path_size == id + size);
	check(spiffe.path_size >= 2 && spiffe.path[0] == '/' && !memchr(id, '\0', size) && !memchr(id, '%', size));
	if (spiffe.namespace_size)
		check(spiffe.namespace == spiffe.path + 4 &&
		      spiffe.service_account == spiffe.namespace + spiffe.namespace_size + 4 &&
		      spiffe.service_account + spiffe.service_account_size == id + size &&
		      !memchr(spiffe.namespace, '/', spiffe.namespace_size));
	return 0;
}
