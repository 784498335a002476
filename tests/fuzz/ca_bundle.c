/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `weft ca join` reads. The first byte of the input: s, texts as `weft ca export` seals them, one joined after the other, with a
 * line "%%" between them; anything else, a file as it is. A refused export leaves no trace, one that was taken can be read back and
 * taken again.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "tls/ca.h"
#include "tls/key.h"

#define NOW 1800000000 /* when the seeds may be joined with */
#define HEAD 40 /* of a bundle: 12 of magic, nonce and 16 of tag, tls/ca_manage.c */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const files[] = { "root.pem", "intermediate.pem", "roots.pem", "crl.pem" };
static const char code[] = "0000000000000000000000000000000000000000000000000000000000000000";
static char path[] = "/dev/shm/weft-fuzz-ca.XXXXXX";
static int dir = -1;

static void forget(void)
{
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(files); i++)
		unlinkat(dir, files[i], 0);
}

static void clean_up(void)
{
	forget();
	rmdir(path);
}

static void set_up(void)
{
	struct weft_err err;

	if (dir >= 0)
		return;
	if (weft_key_heap(&err) < 0 || !mkdtemp(path) || (dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	atexit(clean_up);
}

/* As the export does it, with a code and a nonce of zeros. */
static void seal(const uint8_t *text, size_t size, struct weft_buf *ret_bundle)
{
	static const unsigned char key[32];
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	size_t at;
	int done;

	if (weft_buf_reserve(ret_bundle, HEAD + size, &at) < 0)
		abort();
	memset(ret_bundle->data, 0, HEAD);
	memcpy(ret_bundle->data, "weft-join-1\n", 12);
	if (EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, (unsigned char *)ret_bundle->data + 12) != 1 ||
	    EVP_EncryptUpdate(context, NULL, &done, (unsigned char *)ret_bundle->data, 12) != 1 ||
	    EVP_EncryptUpdate(context, (unsigned char *)ret_bundle->data + HEAD, &done, text, (int)size) != 1 ||
	    EVP_EncryptFinal_ex(context, (unsigned char *)ret_bundle->data + HEAD + done, &done) != 1 ||
	    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, 16, ret_bundle->data + 24) != 1)
		abort();
	EVP_CIPHER_CTX_free(context);
}

/* Read back: only a root's own node may export, so that the refusal tells. */
static bool is_there(void)
{
	weft_buf_done_on_exit struct weft_buf bundle = WEFT_BUF_INIT;
	struct weft_ca_export made;
	struct weft_err err = { "" };
	int r = weft_ca_export(dir, NOW, &bundle, &made, &err);

	if (r != -ENOKEY && r != -ENOENT)
		abort();
	return r == -ENOKEY;
}

static void join(const void *bundle, size_t size)
{
	bool before = is_there();
	struct weft_err err = { "" };
	char domain[256] = "";
	int r = weft_ca_join(dir, NOW, bundle, size, code, domain, &err);

	if (r < 0) {
		if (!err.text[0] || domain[0] || is_there() != before)
			abort();
		for (size_t i = 0; !before && i < WEFT_ARRAY_SIZE(files); i++)
			if (faccessat(dir, files[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
				abort();
		return;
	}
	if (!domain[0] || !is_there() || weft_ca_join(dir, NOW, bundle, size, code, domain, &err) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	set_up();
	if (!size || *data != 's') {
		join(data, size);
	} else {
		const uint8_t *at = data + 1, *end = data + size;

		while (at) {
			weft_buf_done_on_exit struct weft_buf bundle = WEFT_BUF_INIT;
			const uint8_t *line = memmem(at, (size_t)(end - at), "\n%%\n", 4);

			seal(at, (size_t)((line ? line + 1 : end) - at), &bundle);
			join(bundle.data, bundle.size);
			at = line ? line + 4 : NULL;
		}
	}
	forget();
	return 0;
}
