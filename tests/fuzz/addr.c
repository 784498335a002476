/* SPDX-License-Identifier: Apache-2.0 */
/* A text as an address, a CIDR, an address and port: what is taken is printed in the one form that reads back as itself. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_addr(const char *text)
{
	struct weft_addr addr, again;
	struct weft_cidr cidr;
	char shown[WEFT_ADDR_TEXT];
	int r = weft_addr_parse(text, &addr);

	assert(r == 0 || r == -EINVAL);
	if (r < 0)
		return;
	assert(strlen(weft_addr_format(&addr, shown)) < WEFT_ADDR_TEXT);
	assert(weft_addr_parse(shown, &again) == 0 && weft_addr_compare(&addr, &again) == 0);
	assert(weft_addr_is_v4(&addr) == !strchr(shown, ':'));
	assert(weft_cidr_parse(text, &cidr) == 0 && cidr.bits == 128 && weft_cidr_contains(&cidr, &addr));
}

static void check_cidr(const char *text)
{
	struct weft_cidr cidr, again;
	struct weft_addr beyond;
	char shown[WEFT_ADDR_TEXT + 8];
	int r = weft_cidr_parse(text, &cidr);

	assert(r == 0 || r == -EINVAL);
	if (r < 0)
		return;
	assert(cidr.bits <= 128 && weft_cidr_contains(&cidr, &cidr.addr));
	/* Its last bit set is still inside, unless that bit is the prefix's; the prefix's last bit turned never is. */
	beyond = cidr.addr;
	if (cidr.bits) {
		((uint8_t *)&beyond)[(cidr.bits - 1) / 8] ^= (uint8_t)(0x80 >> (cidr.bits - 1) % 8);
		assert(!weft_cidr_contains(&cidr, &beyond));
	}
	beyond = cidr.addr;
	((uint8_t *)&beyond)[15] ^= 1;
	assert(weft_cidr_contains(&cidr, &beyond) == (cidr.bits < 128));
	weft_addr_format(&cidr.addr, shown);
	sprintf(shown + strlen(shown), "/%u", cidr.bits - (weft_addr_is_v4(&cidr.addr) && cidr.bits >= 96 ? 96 : 0));
	assert(weft_cidr_parse(shown, &again) == 0 && memcmp(&cidr, &again, sizeof(cidr)) == 0);
}

static void check_addr_port(const char *text)
{
	struct weft_addr addr, again;
	uint16_t port, port_again;
	char shown[WEFT_ADDR_TEXT];
	int r = weft_addr_port_parse(text, &addr, &port);

	assert(r == 0 || r == -EINVAL);
	if (r < 0)
		return;
	assert(strlen(weft_addr_port_format(&addr, port, shown)) < WEFT_ADDR_TEXT);
	assert(weft_addr_port_parse(shown, &again, &port_again) == 0);
	assert(port == port_again && weft_addr_compare(&addr, &again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	check_addr(text);
	check_cidr(text);
	check_addr_port(text);
	free(text);
	return 0;
}
