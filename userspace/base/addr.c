/* SPDX-License-Identifier: Apache-2.0 */
#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

static const uint8_t *bytes(const struct weft_addr *addr)
{
	return (const uint8_t *)addr->w;
}

bool weft_addr_is_v4(const struct weft_addr *addr)
{
	return memcmp(addr->w, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool weft_addr_is_any(const struct weft_addr *addr)
{
	return !addr->w[0] && !addr->w[1] && !addr->w[3] && (!addr->w[2] || weft_addr_is_v4(addr));
}

bool weft_addr_is_loopback(const struct weft_addr *addr)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (weft_addr_is_v4(addr))
		return bytes(addr)[12] == 127;
	return memcmp(addr->w, one, sizeof(one)) == 0;
}

bool weft_addr_is_link_local(const struct weft_addr *addr)
{
	const uint8_t *b = bytes(addr);

	if (weft_addr_is_v4(addr))
		return b[12] == 169 && b[13] == 254;
	return b[0] == 0xfe && (b[1] & 0xc0) == 0x80;
}

bool weft_addr_is_multicast(const struct weft_addr *addr)
{
	return weft_addr_is_v4(addr) ? (bytes(addr)[12] & 0xf0) == 0xe0 : bytes(addr)[0] == 0xff;
}

int weft_addr_compare(const struct weft_addr *a, const struct weft_addr *b)
{
	return memcmp(a->w, b->w, sizeof(a->w));
}

bool weft_cidr_contains(const struct weft_cidr *cidr, const struct weft_addr *addr)
{
	const uint8_t *want = bytes(&cidr->addr), *have = bytes(addr);
	uint32_t whole = cidr->bits / 8, rest = cidr->bits % 8;

	if (memcmp(want, have, whole) != 0)
		return false;
	return !rest || ((want[whole] ^ have[whole]) >> (8 - rest)) == 0;
}

int weft_addr_parse(const char *text, struct weft_addr *ret_addr)
{
	struct weft_addr addr = { 0 };

	if (inet_pton(AF_INET6, text, addr.w) == 1) {
		*ret_addr = addr;
		return 0;
	}
	memcpy(addr.w, mapped_prefix, sizeof(mapped_prefix));
	if (inet_pton(AF_INET, text, &addr.w[3]) != 1)
		return -EINVAL;
	*ret_addr = addr;
	return 0;
}

static int port_parse(const char *text, unsigned long max, unsigned long *ret_number)
{
	char *end;
	unsigned long number;

	/* strtoul takes signs and spaces; a port or prefix has neither */
	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	number = strtoul(text, &end, 10);
	if (errno || *end || number > max)
		return -EINVAL;
	*ret_number = number;
	return 0;
}

int weft_cidr_parse(const char *text, struct weft_cidr *ret_cidr)
{
	struct weft_cidr cidr = { .bits = 128 };
	char host[WEFT_ADDR_TEXT];
	const char *slash = strchr(text, '/');
	size_t size = slash ? (size_t)(slash - text) : strlen(text);
	unsigned long bits;
	bool v4;

	if (size >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, size);
	host[size] = '\0';
	if (weft_addr_parse(host, &cidr.addr) < 0)
		return -EINVAL;
	v4 = !strchr(host, ':');
	if (slash) {
		if (port_parse(slash + 1, v4 ? 32 : 128, &bits) < 0)
			return -EINVAL;
		cidr.bits = (uint32_t)bits + (v4 ? 96 : 0);
	}
	for (uint32_t bit = cidr.bits; bit < 128; bit++)
		if (bytes(&cidr.addr)[bit / 8] & (0x80 >> (bit % 8)))
			return -EINVAL;
	*ret_cidr = cidr;
	return 0;
}

const char *weft_addr_format(const struct weft_addr *addr, char *text)
{
	if (weft_addr_is_v4(addr))
		inet_ntop(AF_INET, &addr->w[3], text, WEFT_ADDR_TEXT);
	else
		inet_ntop(AF_INET6, addr->w, text, WEFT_ADDR_TEXT);
	return text;
}

const char *weft_addr_port_format(const struct weft_addr *addr, uint16_t port, char *text)
{
	char host[INET6_ADDRSTRLEN];

	if (weft_addr_is_v4(addr)) {
		inet_ntop(AF_INET, &addr->w[3], host, sizeof(host));
		snprintf(text, WEFT_ADDR_TEXT, "%s:%u", host, port);
	} else {
		inet_ntop(AF_INET6, addr->w, host, sizeof(host));
		snprintf(text, WEFT_ADDR_TEXT, "[%s]:%u", host, port);
	}
	return text;
}

int weft_addr_port_parse(const char *text, struct weft_addr *ret_addr, uint16_t *ret_port)
{
	char host[WEFT_ADDR_TEXT];
	const char *colon = strrchr(text, ':');
	size_t size;
	struct weft_addr addr;
	unsigned long port;
	bool bracketed = text[0] == '[';

	if (!colon)
		return -EINVAL;
	size = (size_t)(colon - text);
	if (bracketed) {
		if (size < 2 || text[size - 1] != ']')
			return -EINVAL;
		text++;
		size -= 2;
	}
	if (size >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, size);
	host[size] = '\0';
	if (bracketed != !!strchr(host, ':'))
		return -EINVAL;
	if (weft_addr_parse(host, &addr) < 0 || port_parse(colon + 1, 65535, &port) < 0)
		return -EINVAL;
	*ret_addr = addr;
	*ret_port = (uint16_t)port;
	return 0;
}
