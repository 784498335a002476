/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: which header; the rest is its text. What is understood, printed anew, is understood alike. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void authority(const char *text)
{
	struct weft_authority got, again;
	struct weft_err err = { "" };
	char printed[WEFT_HOST_MAX + 8];

	if (weft_authority_parse(text, &got, &err) < 0) {
		assert(err.text[0]);
		return;
	}
	assert(got.port && !strchr(text, '@'));
	if (got.named)
		snprintf(printed, sizeof(printed), "%s:%u", got.host, got.port);
	else
		weft_addr_port_format(&got.addr, got.port, printed);
	assert(weft_authority_parse(printed, &again, &err) == 0);
	assert(again.named == got.named && again.port == got.port && strcmp(again.host, got.host) == 0);
	assert(got.named || weft_addr_compare(&again.addr, &got.addr) == 0);
}

static void forwarded(const char *text)
{
	struct weft_forwarded got, again;
	char printed[WEFT_FORWARDED_TEXT];

	if (weft_forwarded_parse(text, &got) < 0 || !got.known || !got.port)
		return;
	assert(weft_forwarded_parse(weft_forwarded_print(&got.addr, got.port, got.host, printed), &again) == 0);
	assert(again.known && again.port == got.port && strcmp(again.host, got.host) == 0);
	assert(weft_addr_compare(&again.addr, &got.addr) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size == 0)
		return 0;
	text = strndup((const char *)data + 1, size - 1);
	assert(text);
	if (data[0] % 3 == 0)
		authority(text);
	else if (data[0] % 3 == 1)
		forwarded(text);
	else
		assert(!weft_traceparent_valid(text) || strlen(text) == WEFT_TRACEPARENT_TEXT - 1);
	free(text);
	return 0;
}
