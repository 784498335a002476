/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/spiffe.h"

#include <errno.h>
#include <string.h>

#define SCHEME "spiffe://"

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_common(char c)
{
	return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

/*
 * Section 2.1: lower-case letters, digits, dots, dashes and underscores; so no port, user, address in brackets or
 * %-escape.
 */
bool weft_trust_domain_valid(const char *domain, size_t size)
{
	if (size == 0 || size > WEFT_TRUST_DOMAIN_MAX)
		return false;
	for (size_t i = 0; i < size; i++)
		if (!is_common(domain[i]) && !(domain[i] >= 'a' && domain[i] <= 'z'))
			return false;
	return true;
}

/* What of `text` may be said in a sentence: what comes before its first byte that does not print, and not too much. */
static int printable(const char *text, size_t size)
{
	size_t end = 0;

	while (end < size && end < 200 && text[end] > ' ' && text[end] < 127)
		end++;
	return (int)end;
}

static int refuse(struct weft_err *err, const char *id, size_t size, const char *why)
{
	return weft_err_set(err, EINVAL, "\"%.*s\" is no SPIFFE id: %s", printable(id, size), id, why);
}

/* Section 2.2, of a path without its first slash. NULL, or what is wrong. */
static const char *path_fault(const char *path, size_t size)
{
	size_t start = 0;

	for (size_t i = 0; i <= size; i++) {
		size_t length = i - start;

		if (i < size && path[i] != '/') {
			if (!is_letter(path[i]) && !is_common(path[i]))
				return "its path has a character other than letters, digits, dots, dashes and underscores";
			continue;
		}
		if (length == 0)
			return i == size ? "its path ends in a slash" : "its path has an empty segment";
		if ((length == 1 && path[start] == '.') ||
		    (length == 2 && path[start] == '.' && path[start + 1] == '.'))
			return "its path has a segment . or ..";
		start = i + 1;
	}
	return NULL;
}

/* The path /ns/<namespace>/sa/<service account>: pilot/pkg/serviceaccount and pkg/spiffe in istio/istio. */
static void split(struct weft_spiffe *spiffe)
{
	const char *at = spiffe->path, *end = spiffe->path + spiffe->path_size, *namespace, *slash;

	if (spiffe->path_size < 4 || memcmp(at, "/ns/", 4) != 0)
		return;
	namespace = at + 4;
	slash = memchr(namespace, '/', (size_t)(end - namespace));
	if (!slash || end - slash < 5 || memcmp(slash, "/sa/", 4) != 0 ||
	    memchr(slash + 4, '/', (size_t)(end - slash - 4)))
		return;
	spiffe->namespace = namespace;
	spiffe->namespace_size = (size_t)(slash - namespace);
	spiffe->service_account = slash + 4;
	spiffe->service_account_size = (size_t)(end - slash - 4);
}

int weft_spiffe_parse(const char *id, size_t size, struct weft_spiffe *ret_spiffe, struct weft_err *err)
{
	struct weft_spiffe spiffe = { 0 };
	const char *fault, *slash;

	if (size == 0)
		return weft_err_set(err, EINVAL, "an empty string is no SPIFFE id");
	if (size > WEFT_SPIFFE_MAX)
		return weft_err_set(err, EINVAL, "an id of %zu bytes is no SPIFFE id: they have at most %d", size,
				    WEFT_SPIFFE_MAX);
	if (size < sizeof(SCHEME) - 1 || memcmp(id, SCHEME, sizeof(SCHEME) - 1) != 0)
		return refuse(err, id, size, "it does not begin with " SCHEME);
	spiffe.trust_domain = id + sizeof(SCHEME) - 1;
	slash = memchr(spiffe.trust_domain, '/', size - (sizeof(SCHEME) - 1));
	spiffe.path = slash ? slash : id + size;
	spiffe.trust_domain_size = (size_t)(spiffe.path - spiffe.trust_domain);
	spiffe.path_size = (size_t)(id + size - spiffe.path);
	if (!weft_trust_domain_valid(spiffe.trust_domain, spiffe.trust_domain_size))
		return refuse(
			err, id, size,
			"its trust domain is not 1 to 255 lower-case letters, digits, dots, dashes and underscores");
	/* A trust domain alone is an id too, but of no workload (X509-SVID section 2). */
	if (spiffe.path_size == 0)
		return refuse(err, id, size, "it has no path, so it names a trust domain and no workload");
	fault = path_fault(spiffe.path + 1, spiffe.path_size - 1);
	if (fault)
		return refuse(err, id, size, fault);
	split(&spiffe);
	*ret_spiffe = spiffe;
	return 0;
}
