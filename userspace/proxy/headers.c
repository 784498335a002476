/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/headers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* 1 to 65535 in at most five digits: "00080" and "+80" are nobody's port. */
static int port_of(const char *text, size_t size, uint16_t *ret_port)
{
	unsigned int port = 0;

	if (size == 0 || size > 5 || text[0] == '0')
		return -EINVAL;
	for (size_t i = 0; i < size; i++) {
		if (!is_digit(text[i]))
			return -EINVAL;
		port = port * 10 + (unsigned int)(text[i] - '0');
	}
	if (port > 65535)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

/* RFC 1123 section 2.1, with the underscore that some names of services have; into `ret_host` in lower case. */
static int name_of(const char *text, size_t size, char *ret_host)
{
	bool begins = true;

	if (size == 0 || size > WEFT_HOST_MAX)
		return -EINVAL;
	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (c == '.' ? begins : !is_alpha(c) && !is_digit(c) && c != '_' && (c != '-' || begins))
			return -EINVAL;
		begins = c == '.';
	}
	if (begins || text[size - 1] == '-')
		return -EINVAL;
	for (size_t i = 0; i < size; i++)
		ret_host[i] = (char)(is_alpha(text[i]) ? text[i] | 0x20 : text[i]);
	ret_host[size] = '\0';
	return 0;
}

/* What inet_aton() takes for an address is no name: 010.0.0.1, 0x7f.1 and 10.1 mean one thing here and another there. */
static bool looks_like_v4(const char *host)
{
	const char *dot = strrchr(host, '.'), *last = dot ? dot + 1 : host;

	return strncmp(last, "0x", 2) == 0 || strspn(last, "0123456789") == strlen(last);
}

/* Without brackets, of the family that the caller saw. */
static int addr_of(const char *text, size_t size, bool v6, struct weft_addr *ret_addr)
{
	char host[WEFT_ADDR_TEXT];

	if (size >= sizeof(host) || v6 != (memchr(text, ':', size) != NULL))
		return -EINVAL;
	memcpy(host, text, size);
	host[size] = '\0';
	return weft_addr_parse(host, ret_addr);
}

int weft_authority_parse(const char *text, struct weft_authority *ret_authority, struct weft_err *err)
{
	struct weft_authority authority = { 0 };
	size_t size = strlen(text), host;
	const char *colon;

	if (size == 0)
		return weft_err_set(err, EINVAL, "there is no authority");
	if (memchr(text, '@', size))
		return weft_err_set(err, EINVAL, "its authority has userinfo");
	if (text[0] == '[') {
		const char *end = strchr(text, ']');

		if (!end || addr_of(text + 1, (size_t)(end - text) - 1, true, &authority.addr) < 0)
			return weft_err_set(err, EINVAL, "its authority has no IPv6 address between its brackets");
		colon = end + 1;
	} else {
		colon = strchr(text, ':');
		host = colon ? (size_t)(colon - text) : size;
		if (addr_of(text, host, false, &authority.addr) < 0) {
			if (name_of(text, host, authority.host) < 0 || looks_like_v4(authority.host))
				return weft_err_set(err, EINVAL, "its authority has neither an address nor a host name");
			authority.named = true;
		}
	}
	if (!colon || *colon != ':')
		return weft_err_set(err, EINVAL, "its authority has no port");
	if (port_of(colon + 1, size - (size_t)(colon + 1 - text), &authority.port) < 0)
		return weft_err_set(err, EINVAL, "its authority has a port that is none");
	*ret_authority = authority;
	return 0;
}

/* ---- RFC 7239 ---- */

static bool is_token(char c)
{
	return is_alpha(c) || is_digit(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_space(const char *at)
{
	while (*at == ' ' || *at == '\t')
		at++;
	return at;
}

/* token or quoted-string into `value`; NULL: neither, or too long. */
static const char *value_at(const char *at, char *value, size_t room)
{
	size_t size = 0;

	if (*at == '"') {
		for (at++; *at != '"'; at++) {
			if (*at == '\\')
				at++;
			if (!*at || (unsigned char)*at < ' ' || size + 1 >= room)
				return NULL;
			value[size++] = *at;
		}
		at++;
	} else {
		for (; is_token(*at); at++) {
			if (size + 1 >= room)
				return NULL;
			value[size++] = *at;
		}
		if (size == 0)
			return NULL;
	}
	value[size] = '\0';
	return at;
}

/* RFC 7239 section 6: node [":" port]; "unknown" and obfuscated ones, and obfuscated ports, tell nothing. */
static int take_for(const char *value, struct weft_forwarded *forwarded)
{
	const char *port;

	if (value[0] == '[') {
		const char *end = strchr(value, ']');

		if (!end || addr_of(value + 1, (size_t)(end - value) - 1, true, &forwarded->addr) < 0)
			return -EINVAL;
		port = end + 1;
	} else {
		port = strchrnul(value, ':');
		if (value[0] == '_' || ((size_t)(port - value) == strlen("unknown") && strncasecmp(value, "unknown", 7) == 0))
			return 0;
		if (addr_of(value, (size_t)(port - value), false, &forwarded->addr) < 0)
			return -EINVAL;
	}
	if (*port && (*port != ':' || (port[1] != '_' && port_of(port + 1, strlen(port + 1), &forwarded->port) < 0)))
		return -EINVAL;
	forwarded->known = true;
	return 0;
}

/* host[:port]; the port says nothing that the authority does not say better. */
static int take_host(const char *value, struct weft_forwarded *forwarded)
{
	size_t size = (size_t)(strchrnul(value, ':') - value);
	uint16_t ignored;

	if (value[size] && port_of(value + size + 1, strlen(value + size + 1), &ignored) < 0)
		return -EINVAL;
	return name_of(value, size, forwarded->host);
}

int weft_forwarded_parse(const char *text, struct weft_forwarded *ret_forwarded)
{
	struct weft_forwarded forwarded = { 0 };
	bool has_for = false, has_host = false;
	const char *at = skip_space(text);

	for (;;) {
		char key[16], value[WEFT_HOST_MAX + 8];
		const char *equals = value_at(at, key, sizeof(key));

		if (*at == '"' || !equals || *equals != '=')
			return -EINVAL;
		at = value_at(equals + 1, value, sizeof(value));
		if (!at)
			return -EINVAL;
		if (strcasecmp(key, "for") == 0) {
			if (has_for || take_for(value, &forwarded) < 0)
				return -EINVAL;
			has_for = true;
		} else if (strcasecmp(key, "host") == 0) {
			if (has_host || take_host(value, &forwarded) < 0)
				return -EINVAL;
			has_host = true;
		}
		at = skip_space(at);
		if (*at == '\0' || *at == ',')
			break;
		if (*at != ';')
			return -EINVAL;
		at = skip_space(at + 1);
	}
	*ret_forwarded = forwarded;
	return 0;
}

const char *weft_forwarded_print(const struct weft_addr *addr, uint16_t port, const char *host, char *text)
{
	char from[WEFT_ADDR_TEXT];

	snprintf(text, WEFT_FORWARDED_TEXT, "for=\"%s\"%s%s", weft_addr_port_format(addr, port, from), host[0] ? ";host=" : "", host);
	return text;
}

/* ---- W3C baggage and trace context ---- */

/* baggage-octet of W3C baggage section 3.3.1.1, without the percent sign that begins an escape. */
static int add_escaped(struct weft_buf *out, const char *text)
{
	int r = 0;

	for (; *text && r == 0; text++) {
		unsigned char c = (unsigned char)*text;

		if (c <= ' ' || c >= 0x7f || strchr("\",;\\%", c))
			r = weft_buf_printf(out, "%%%02X", c);
		else
			r = weft_buf_add(out, text, 1);
	}
	return r;
}

int weft_baggage_print(const struct weft_mesh_workload *workload, struct weft_buf *out)
{
	char owner[64];
	const struct {
		const char *key, *value;
	} items[] = {
		{ "k8s.cluster.name", workload->cluster },
		{ "k8s.namespace.name", workload->namespace },
		{ owner, workload->owner },
		{ "service.name", workload->app },
		{ "service.version", workload->version },
		{ "cloud.region", workload->region },
		{ "cloud.availability_zone", workload->zone },
	};
	bool first = true;
	int r = 0;

	snprintf(owner, sizeof(owner), "k8s.%s.name", workload->owner_kind[0] ? workload->owner_kind : "pod");
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(items) && r == 0; i++) {
		if (!items[i].value[0])
			continue;
		r = weft_buf_printf(out, "%s%s=", first ? "" : ",", items[i].key);
		if (r == 0)
			r = add_escaped(out, items[i].value);
		first = false;
	}
	return r;
}

/* https://www.w3.org/TR/trace-context/ section 3.2: lower-case hex, and neither id all zero. */
bool weft_traceparent_valid(const char *text)
{
	static const char shape[] = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
	bool trace = false, span = false;
	size_t i;

	for (i = 0; shape[i] && text[i]; i++) {
		char c = text[i];

		if (shape[i] != 'x') {
			if (c != shape[i])
				return false;
			continue;
		}
		if (!is_digit(c) && (c < 'a' || c > 'f'))
			return false;
		trace = trace || (i < 35 && c != '0');
		span = span || (i > 35 && i < 52 && c != '0');
	}
	return !shape[i] && !text[i] && trace && span;
}

const char *weft_traceparent_print(const uint8_t *random, char *text)
{
	static const char digits[] = "0123456789abcdef";
	char *at = text;

	memcpy(at, "00-", 3);
	at += 3;
	for (size_t i = 0; i < WEFT_TRACEPARENT_RANDOM; i++) {
		/* The last byte of each id is made odd, so that it is never all zero. */
		uint8_t byte = i == 15 || i == WEFT_TRACEPARENT_RANDOM - 1 ? random[i] | 1 : random[i];

		if (i == 16)
			*at++ = '-';
		*at++ = digits[byte >> 4];
		*at++ = digits[byte & 15];
	}
	memcpy(at, "-00", 4);
	return text;
}
