/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * 64 bytes for the scalar of each of 2 keys (the old one beside the new) of 4096 identities, and files while they are read. Locked:
 * RLIMIT_MEMLOCK of an ordinary process is 8 MiB since Linux 5.16, 64 KiB before.
 */
#define HEAP_SIZE (2u << 20)
#define HEAP_PIECE 64
#define FILE_MAX (64u << 10)
#define SCALAR 32
#define POINT 65
#define STACK_USED (16u << 10) /* by OpenSSL's arithmetic on P-256: measured under 6 KiB */

/* PKCS#8 of a P-256 key (RFC 5958, RFC 5915) but for scalar and point. */
static const unsigned char before_scalar[] = {
	0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
	0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20,
};
static const unsigned char before_point[] = { 0xa1, 0x44, 0x03, 0x42, 0x00 };
#define PKCS8 (sizeof(before_scalar) + SCALAR + sizeof(before_point) + POINT)
static const unsigned char oid_ec[] = { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01 };
static const unsigned char oid_p256[] = { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07 };

int weft_key_heap(struct weft_err *err)
{
	int r = CRYPTO_secure_malloc_initialized() ? 1 : CRYPTO_secure_malloc_init(HEAP_SIZE, HEAP_PIECE);

	if (r == 1)
		return 0;
	if (r == 0)
		return weft_err_set(err, ENOMEM, "there is no memory for private keys, %u bytes in one piece", HEAP_SIZE);
	weft_err_set(err, EPERM, "memory for private keys, %u bytes, could not be locked: it may be swapped out; raise RLIMIT_MEMLOCK",
		     HEAP_SIZE);
	return 1;
}

void *weft_key_alloc(size_t size)
{
	return OPENSSL_secure_zalloc(size);
}

void weft_key_free(void *memory, size_t size)
{
	OPENSSL_secure_clear_free(memory, size);
}

/* Below the frame of its caller, where the functions that it called were. */
static void __attribute__((noinline)) wipe_stack(void)
{
	unsigned char used[STACK_USED];

	OPENSSL_cleanse(used, sizeof(used));
}

int weft_key_new(EVP_PKEY **ret_key, struct weft_err *err)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	wipe_stack();
	if (!key)
		return weft_err_set(err, ENOMEM, "no key can be made: the memory for private keys is full");
	*ret_key = key;
	return 0;
}

static void bn_freep(BIGNUM **number)
{
	BN_clear_free(*number);
}

static void point_freep(EC_POINT **point)
{
	EC_POINT_free(*point);
}

static void group_freep(EC_GROUP **group)
{
	EC_GROUP_free(*group);
}

/* The public half, for it may not be in the file, or not be this key's. */
static int find_point(const unsigned char *scalar, unsigned char point[static POINT])
{
	weft_cleanup(group_freep) EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
	weft_cleanup(point_freep) EC_POINT *made = group ? EC_POINT_new(group) : NULL;
	weft_cleanup(bn_freep) BIGNUM *number = BN_secure_new();

	if (!made || !number || !BN_bin2bn(scalar, SCALAR, number))
		return -ENOMEM;
	BN_set_flags(number, BN_FLG_CONSTTIME);
	if (BN_is_zero(number) || BN_cmp(number, EC_GROUP_get0_order(group)) >= 0)
		return -EINVAL;
	if (!EC_POINT_mul(group, made, number, NULL, NULL, NULL) ||
	    EC_POINT_point2oct(group, made, POINT_CONVERSION_UNCOMPRESSED, point, POINT, NULL) != POINT)
		return -ENOMEM;
	return 0;
}

/* `scalar` big-endian; `native`, its bytes turned round, is of weft_key_alloc() too. */
static int from_scalar(const unsigned char *scalar, unsigned char *native, EVP_PKEY **ret_key)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	unsigned char point[POINT];
	char group[] = SN_X9_62_prime256v1;
	EVP_PKEY *key = NULL;
	int r = context ? find_point(scalar, point) : -ENOMEM;

	for (size_t i = 0; i < SCALAR; i++)
		native[i] = scalar[__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? SCALAR - 1 - i : i];
	if (r == 0) {
		OSSL_PARAM params[] = {
			OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
			OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
			OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, native, SCALAR),
			OSSL_PARAM_construct_end(),
		};

		if (EVP_PKEY_fromdata_init(context) != 1 || EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, params) != 1)
			r = -ENOMEM;
	}
	EVP_PKEY_CTX_free(context);
	ERR_clear_error();
	if (r == 0)
		*ret_key = key;
	return r;
}

/* ---- DER, as much as a key needs ---- */

struct der {
	const unsigned char *at;
	size_t size;
};

/* Takes one element of this tag off the front; its contents are *ret_inner. */
static bool take(struct der *der, unsigned char tag, struct der *ret_inner)
{
	size_t size, head = 2;

	if (der->size < 2 || der->at[0] != tag)
		return false;
	size = der->at[1];
	if (size == 0x81) {
		if (der->size < 3 || der->at[2] < 0x80)
			return false;
		size = der->at[2];
		head = 3;
	} else if (size >= 0x80) {
		return false; /* nothing of a P-256 key is that long */
	}
	if (der->size - head < size)
		return false;
	*ret_inner = (struct der){ der->at + head, size };
	der->at += head + size;
	der->size -= head + size;
	return true;
}

static bool is(const struct der *der, const void *data, size_t size)
{
	return der->size == size && memcmp(der->at, data, size) == 0;
}

/* RFC 5915. Where the curve is not said, it was said outside. */
static const unsigned char *scalar_of_sec1(struct der der, bool curve_known)
{
	struct der sequence, version, scalar, inner, curve;

	if (!take(&der, 0x30, &sequence) || der.size || !take(&sequence, 0x02, &version) || !is(&version, "\x01", 1) ||
	    !take(&sequence, 0x04, &scalar) || scalar.size != SCALAR)
		return NULL;
	if (take(&sequence, 0xa0, &inner))
		curve_known = take(&inner, 0x06, &curve) && inner.size == 0 && is(&curve, oid_p256, sizeof(oid_p256));
	return curve_known ? scalar.at : NULL;
}

static const unsigned char *scalar_of_pkcs8(struct der der)
{
	struct der sequence, version, algorithm, type, curve, key;

	if (!take(&der, 0x30, &sequence) || der.size || !take(&sequence, 0x02, &version) || !is(&version, "\x00", 1) ||
	    !take(&sequence, 0x30, &algorithm) || !take(&algorithm, 0x06, &type) || !is(&type, oid_ec, sizeof(oid_ec)) ||
	    !take(&algorithm, 0x06, &curve) || algorithm.size || !is(&curve, oid_p256, sizeof(oid_p256)) || !take(&sequence, 0x04, &key))
		return NULL;
	return scalar_of_sec1(key, true);
}

/* ---- PEM ---- */

static const char *find(const char *text, size_t size, const char *needle)
{
	return size ? memmem(text, size, needle, strlen(needle)) : NULL;
}

static bool is_space(char c)
{
	return c == '\n' || c == '\r' || c == ' ' || c == '\t';
}

/* Of `room` bytes at `der`, which begin with the base64 text: decoded in place. Returns the size, or 0. */
static size_t decode(unsigned char *der, const char *text, size_t size)
{
	size_t length = 0, padding = 0;
	int got;

	for (size_t i = 0; i < size; i++)
		if (!is_space(text[i]))
			der[length++] = (unsigned char)text[i];
	if (length == 0 || length % 4)
		return 0;
	while (padding < 2 && der[length - 1 - padding] == '=')
		padding++;
	got = EVP_DecodeBlock(der, der, (int)length);
	return got > 0 ? (size_t)got - padding : 0;
}

int weft_key_from_pem(const char *pem, size_t size, EVP_PKEY **ret_key, struct weft_err *err)
{
	static const struct {
		const char *begin, *end;
		bool sec1;
	} forms[] = {
		{ "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", false },
		{ "-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----", true },
	};
	const char *begin = NULL, *end = NULL;
	const unsigned char *scalar;
	unsigned char *room;
	size_t length, form;
	int r;

	for (form = 0; form < WEFT_ARRAY_SIZE(forms); form++) {
		begin = find(pem, size, forms[form].begin);
		if (begin)
			break;
	}
	if (!begin && (find(pem, size, "PRIVATE KEY-----")))
		return weft_err_set(err, EINVAL, "the private key is encrypted or not an EC key: give an unencrypted one on P-256");
	if (!begin)
		return weft_err_set(err, ENOENT, "there is no private key in it");
	begin += strlen(forms[form].begin);
	end = find(begin, size - (size_t)(begin - pem), forms[form].end);
	if (!end || end == begin)
		return weft_err_set(err, EINVAL, "the private key does not end");
	length = (size_t)(end - begin);
	room = weft_key_alloc(length + SCALAR);
	if (!room)
		return weft_err_set(err, ENOMEM, "the memory for private keys is full");
	length = decode(room + SCALAR, begin, length);
	scalar = forms[form].sec1 ? scalar_of_sec1((struct der){ room + SCALAR, length }, false)
				  : scalar_of_pkcs8((struct der){ room + SCALAR, length });
	r = scalar ? from_scalar(scalar, room, ret_key) : -EINVAL;
	weft_key_free(room, (size_t)(end - begin) + SCALAR);
	wipe_stack();
	if (r == -EINVAL)
		return weft_err_set(err, r, "the private key is malformed or not on P-256: make it with ECDSA and size 256");
	return r < 0 ? weft_err_set(err, r, "the memory for private keys is full") : 0;
}

static bool put_pkcs8(const EVP_PKEY *key, unsigned char *der)
{
	weft_cleanup(bn_freep) BIGNUM *number = BN_secure_new();
	unsigned char *scalar = der + sizeof(before_scalar), *point = scalar + SCALAR + sizeof(before_point);
	size_t size = 0;

	memcpy(der, before_scalar, sizeof(before_scalar));
	memcpy(scalar + SCALAR, before_point, sizeof(before_point));
	return number && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &number) == 1 &&
	       BN_bn2binpad(number, scalar, SCALAR) == SCALAR &&
	       EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, POINT, &size) == 1 && size == POINT;
}

int weft_key_to_pem(const EVP_PKEY *key, char *room, size_t *ret_size)
{
	static const char begin[] = "-----BEGIN PRIVATE KEY-----\n", end[] = "-----END PRIVATE KEY-----\n";
	unsigned char *der = weft_key_alloc(PKCS8);
	char *at = room;
	bool ok = der && put_pkcs8(key, der);

	at = mempcpy(at, begin, sizeof(begin) - 1);
	for (size_t done = 0; ok && done < PKCS8; done += 48) {
		at += EVP_EncodeBlock((unsigned char *)at, der + done, (int)(PKCS8 - done < 48 ? PKCS8 - done : 48));
		*at++ = '\n';
	}
	at = mempcpy(at, end, sizeof(end) - 1);
	weft_key_free(der, PKCS8);
	wipe_stack();
	if (!ok)
		return -EIO;
	*ret_size = (size_t)(at - room);
	return 0;
}

/* ---- use ---- */

EVP_PKEY_CTX *weft_key_signer(EVP_PKEY *key)
{
	EVP_PKEY_CTX *signer = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);

	if (signer && EVP_PKEY_sign_init(signer) == 1)
		return signer;
	EVP_PKEY_CTX_free(signer);
	return NULL;
}

int weft_key_sign(EVP_PKEY_CTX *signer, const void *digest, void *ret_signature, size_t *ret_size)
{
	size_t size = WEFT_KEY_SIGNATURE_MAX;
	int ok = EVP_PKEY_sign(signer, ret_signature, &size, digest, WEFT_KEY_DIGEST);

	ERR_clear_error();
	if (ok != 1)
		return -EIO;
	*ret_size = size;
	return 0;
}

int weft_key_read_file(int dir, const char *name, char **ret_data, size_t *ret_size, size_t *ret_room, struct weft_err *err)
{
	weft_close_on_exit int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	size_t size = 0, room;
	ssize_t got = 1;
	char *data;

	if (fd < 0)
		return weft_err_set(err, errno, "cannot open %s: %m", name);
	if (fstat(fd, &st) < 0)
		return weft_err_set(err, errno, "cannot look at %s: %m", name);
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)FILE_MAX)
		return weft_err_set(err, EFBIG, "%s is no file of at most %u bytes", name, FILE_MAX);
	room = (size_t)st.st_size + 1;
	data = weft_key_alloc(room);
	if (!data)
		return weft_err_set(err, ENOMEM, "the memory for private keys is full: cannot read %s", name);
	while (size < room && got != 0) {
		got = read(fd, data + size, room - size);
		if (got < 0 && errno != EINTR) {
			int r = -errno;

			weft_key_free(data, room);
			return weft_err_set(err, r, "cannot read %s: %m", name);
		}
		size += got > 0 ? (size_t)got : 0;
	}
	if (size == room) {
		weft_key_free(data, room);
		return weft_err_set(err, EAGAIN, "%s grows while it is read", name);
	}
	*ret_data = data;
	*ret_size = size;
	*ret_room = room;
	return 0;
}
