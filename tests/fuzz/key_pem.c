/* SPDX-License-Identifier: Apache-2.0 */
/* Files of keys, certificates and CRLs as others write them. What is taken as a key is one that can be written and read again. */
#include <assert.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

#include "tls/key.h"
#include "tls/pem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	weft_pem_done_on_exit struct weft_pem pem = { .count = 0 };
	weft_key_on_exit EVP_PKEY *key = NULL, *again = NULL;
	struct weft_err err = { "" };
	char *text = weft_key_alloc(size ? size : 1), *room;
	size_t written;

	assert(text);
	memcpy(text, data, size);
	if (weft_pem_read(text, size, "input", &pem, &err) < 0)
		assert(err.text[0]);
	err.text[0] = '\0';
	if (weft_key_from_pem(text, size, &key, &err) < 0) {
		assert(err.text[0] && !key);
	} else {
		room = weft_key_alloc(WEFT_KEY_PEM_MAX);
		assert(weft_key_to_pem(key, room, &written) == 0 && written <= WEFT_KEY_PEM_MAX);
		assert(weft_key_from_pem(room, written, &again, &err) == 0);
		assert(EVP_PKEY_eq(key, again) == 1);
		weft_key_free(room, WEFT_KEY_PEM_MAX);
	}
	weft_key_free(text, size ? size : 1);
	return 0;
}
