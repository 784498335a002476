/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The provider lives in a library context of its own, so that nothing but the keys made here can ever reach it: an EVP_PKEY
 * brings its key management, and that the provider that its signature is fetched from (OpenSSL, crypto/evp/m_sigver.c).
 */
#include "tls/remote_key.h"

#include <errno.h>
#include <openssl/async.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>
#include <uthash.h>

#define SIGNATURE_MAX 256
#define PARAM_ORIGIN "weft-origin" /* of EVP_PKEY_fromdata(): struct origin, by address */
#define SIGNATURE_NAME "WEFT-REMOTE-ECDSA" /* nobody else's: what is fetched by it is ours */

/* A signature that a paused handshake waits for. On the stack of that handshake's job, which stays while it is paused. */
struct request {
	UT_hash_handle hh; /* by serial */
	uint32_t serial;
	void *waiter;
	ASYNC_JOB *job;
	bool done;
	int error;
	size_t size;
	unsigned char signature[SIGNATURE_MAX];
};

struct weft_remote_keys {
	unsigned int refs; /* one of the owner, one a key: identities may outlive the connection to `keys` */
	struct weft_remote_ops ops; /* all NULL once the owner has gone */
	struct request *requests;
	uint32_t serial;
	void *waiter;
};

struct origin {
	struct weft_remote_keys *keys;
	uint64_t key;
	EVP_PKEY *public;
};

/* The provider's key. */
struct key {
	struct weft_remote_keys *keys; /* NULL: a public key that was imported to be compared */
	uint64_t key;
	EVP_PKEY *public;
};

static struct weft_remote_keys *keys_unref(struct weft_remote_keys *keys)
{
	if (keys && --keys->refs == 0)
		free(keys);
	return NULL;
}

/* ---- key management ---- */

static void *key_new(void *provider)
{
	(void)provider;
	return calloc(1, sizeof(struct key));
}

static void key_free(void *data)
{
	struct key *key = data;

	if (!key)
		return;
	keys_unref(key->keys);
	EVP_PKEY_free(key->public);
	free(key);
}

static int key_has(const void *data, int selection)
{
	const struct key *key = data;

	if (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY)
		return key->keys != NULL;
	return key->public != NULL;
}

static int key_match(const void *left, const void *right, int selection)
{
	const struct key *one = left, *other = right;

	/* Only public halves are here to be compared. */
	if (!(selection & (OSSL_KEYMGMT_SELECT_KEYPAIR | OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS)))
		return 1;
	return one->public && other->public && EVP_PKEY_eq(one->public, other->public) == 1;
}

static int import_public(struct key *key, const OSSL_PARAM params[])
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	EVP_PKEY *public = NULL;
	int ok = context && EVP_PKEY_fromdata_init(context) == 1 &&
		 EVP_PKEY_fromdata(context, &public, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *)params) == 1;

	EVP_PKEY_CTX_free(context);
	if (!ok)
		return 0;
	EVP_PKEY_free(key->public);
	key->public = public;
	return 1;
}

static int key_import(void *data, int selection, const OSSL_PARAM params[])
{
	const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, PARAM_ORIGIN);
	struct key *key = data;
	struct origin origin;

	(void)selection;
	if (!param)
		return import_public(key, params);
	if (param->data_type != OSSL_PARAM_OCTET_STRING || param->data_size != sizeof(origin) || key->keys)
		return 0;
	memcpy(&origin, param->data, sizeof(origin));
	if (!EVP_PKEY_up_ref(origin.public))
		return 0;
	key->public = origin.public;
	key->key = origin.key;
	key->keys = origin.keys;
	key->keys->refs++;
	return 1;
}

static const OSSL_PARAM *key_import_types(int selection)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_octet_string(PARAM_ORIGIN, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
		OSSL_PARAM_END,
	};

	(void)selection;
	return types;
}

static int key_export(void *data, int selection, OSSL_CALLBACK *callback, void *context)
{
	const struct key *key = data;
	OSSL_PARAM *params = NULL;
	int ok;

	/* There is no private half to give; what only wants to compare asks for the public one. */
	if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) || !key->public ||
	    EVP_PKEY_todata(key->public, EVP_PKEY_PUBLIC_KEY, &params) != 1)
		return 0;
	ok = callback(params, context);
	OSSL_PARAM_free(params);
	return ok;
}

static const OSSL_PARAM *key_export_types(int selection)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
		OSSL_PARAM_END,
	};

	return selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY ? NULL : types;
}

static int key_get_params(void *data, OSSL_PARAM params[])
{
	const struct key *key = data;

	return key->public && EVP_PKEY_get_params(key->public, params) == 1;
}

static const OSSL_PARAM *key_gettable_params(void *provider)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
		OSSL_PARAM_END,
	};

	(void)provider;
	return types;
}

static const char *key_operation_name(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? SIGNATURE_NAME : NULL;
}

static const OSSL_DISPATCH key_functions[] = {
	{ OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))key_new },
	{ OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))key_free },
	{ OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))key_has },
	{ OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))key_match },
	{ OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))key_import },
	{ OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))key_import_types },
	{ OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))key_export },
	{ OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))key_export_types },
	{ OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))key_get_params },
	{ OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))key_gettable_params },
	{ OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))key_operation_name },
	{ 0, NULL },
};

/* ---- signature ---- */

struct signature {
	struct key *key; /* the EVP_PKEY's, which its EVP_MD_CTX holds */
};

static void *signature_new(void *provider, const char *properties)
{
	(void)provider;
	(void)properties;
	return calloc(1, sizeof(struct signature));
}

static void signature_free(void *data)
{
	free(data);
}

static int signature_init(void *data, const char *digest, void *key, const OSSL_PARAM params[])
{
	struct signature *signature = data;

	(void)params;
	if (digest && OPENSSL_strcasecmp(digest, "SHA256") != 0 && OPENSSL_strcasecmp(digest, "SHA2-256") != 0)
		return 0;
	if (key)
		signature->key = key;
	return signature->key && signature->key->keys;
}

static uint32_t next_serial(struct weft_remote_keys *keys)
{
	struct request *twin;

	do {
		keys->serial++;
		HASH_FIND(hh, keys->requests, &keys->serial, sizeof(keys->serial), twin);
	} while (twin || keys->serial == 0);
	return keys->serial;
}

static int fail(int error, const char *what)
{
	ERR_raise_data(ERR_LIB_USER, ERR_R_OPERATION_FAIL, "%s: %s", what, strerror(-error));
	return 0;
}

/* Asks, and pauses the job until the answer is there. What else resumes it meets it paused again. */
static int sign(const struct key *key, const unsigned char *digest, unsigned char *ret_signature, size_t *ret_size, size_t room)
{
	struct weft_remote_keys *keys = key->keys;
	struct request request = { .waiter = keys->waiter, .job = ASYNC_get_current_job() };
	int r;

	if (!keys->ops.sign)
		return fail(-ESHUTDOWN, "nobody signs for this process any more");
	if (!request.job)
		return fail(-EDEADLK, "a remote key signs only in SSL_MODE_ASYNC");
	request.serial = next_serial(keys);
	r = keys->ops.sign(keys->ops.context, key->key, request.serial, digest, SHA256_DIGEST_LENGTH);
	if (r < 0)
		return fail(r, "cannot ask for a signature");
	keys->refs++;
	HASH_ADD(hh, keys->requests, serial, sizeof(request.serial), &request);
	while (!request.done && ASYNC_pause_job())
		;
	HASH_DEL(keys->requests, &request);
	keys_unref(keys);
	if (!request.done)
		return fail(-EIO, "cannot wait for a signature");
	if (request.error)
		return fail(request.error, "no signature was given");
	if (request.size > room)
		return fail(-EMSGSIZE, "a signature is longer than its key makes them");
	memcpy(ret_signature, request.signature, request.size);
	*ret_size = request.size;
	return 1;
}

static int signature_digest_sign(void *data, unsigned char *ret_signature, size_t *ret_size, size_t room, const unsigned char *tbs,
				 size_t size)
{
	const struct signature *signature = data;
	unsigned char digest[SHA256_DIGEST_LENGTH];
	size_t length = (size_t)EVP_PKEY_get_size(signature->key->public);

	if (!ret_signature) {
		*ret_size = length;
		return 1;
	}
	if (!EVP_Digest(tbs, size, digest, NULL, EVP_sha256(), NULL))
		return 0;
	return sign(signature->key, digest, ret_signature, ret_size, room);
}

static const OSSL_DISPATCH signature_functions[] = {
	{ OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))signature_new },
	{ OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))signature_free },
	{ OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))signature_init },
	{ OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (void (*)(void))signature_digest_sign },
	{ 0, NULL },
};

/* ---- provider ---- */

static const OSSL_ALGORITHM *query(void *provider, int operation, int *ret_no_store)
{
	/* By OpenSSL's names of the type: libssl finds out by them that it is an EC key. */
	static const OSSL_ALGORITHM keys[] = {
		{ "EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=weft", key_functions, "EC keys of another process" },
		{ NULL, NULL, NULL, NULL },
	};
	static const OSSL_ALGORITHM signatures[] = {
		{ SIGNATURE_NAME, "provider=weft", signature_functions, "ECDSA in another process" },
		{ NULL, NULL, NULL, NULL },
	};

	(void)provider;
	*ret_no_store = 0;
	return operation == OSSL_OP_KEYMGMT ? keys : operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **ret_context)
{
	static const OSSL_DISPATCH functions[] = {
		{ OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query },
		{ 0, NULL },
	};

	(void)in;
	*out = functions;
	*ret_context = (void *)handle;
	return 1;
}

/*
 * Made once and kept to the process's end: keys hold their key management, that its provider, and when the last of
 * them goes no caller of EVP_PKEY_free() knows.
 */
static OSSL_LIB_CTX *library(void)
{
	static OSSL_LIB_CTX *context;
	OSSL_LIB_CTX *fresh;

	if (context)
		return context;
	fresh = OSSL_LIB_CTX_new();
	if (!fresh || !OSSL_PROVIDER_add_builtin(fresh, "weft", provider_init) || !OSSL_PROVIDER_load(fresh, "weft")) {
		OSSL_LIB_CTX_free(fresh);
		return NULL;
	}
	context = fresh;
	return context;
}

int weft_remote_keys_new(const struct weft_remote_ops *ops, struct weft_remote_keys **ret_keys, struct weft_err *err)
{
	struct weft_remote_keys *keys;

	if (!ASYNC_is_capable())
		return weft_err_set(err, ENOTSUP, "this OpenSSL cannot pause a handshake: it was built without async");
	if (!library())
		return weft_err_set(err, ENOMEM, "OpenSSL does not take the provider of remote keys: out of memory?");
	keys = calloc(1, sizeof(*keys));
	if (!keys)
		return weft_err_set(err, ENOMEM, "out of memory");
	keys->refs = 1;
	keys->ops = *ops;
	*ret_keys = keys;
	return 0;
}

/* Lets the handshake go on to its end, here and now: a job that is never resumed keeps its stack and what is on it. */
static void resume(struct request *request)
{
	ASYNC_JOB *job = request->job;
	int result;

	ASYNC_start_job(&job, NULL, &result, NULL, NULL, 0);
}

struct weft_remote_keys *weft_remote_keys_free(struct weft_remote_keys *keys)
{
	if (!keys)
		return NULL;
	memset(&keys->ops, 0, sizeof(keys->ops));
	for (struct request *request = keys->requests, *next; request; request = next) {
		next = request->hh.next;
		if (!request->done) {
			request->done = true;
			request->error = -ESHUTDOWN;
		}
		resume(request);
	}
	return keys_unref(keys);
}

int weft_remote_key_new(struct weft_remote_keys *keys, uint64_t key, X509 *certificate, EVP_PKEY **ret_key, struct weft_err *err)
{
	EVP_PKEY *public = X509_get0_pubkey(certificate), *made = NULL;
	struct origin origin = { .keys = keys, .key = key, .public = public };
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(PARAM_ORIGIN, &origin, sizeof(origin)),
		OSSL_PARAM_construct_end(),
	};
	EVP_PKEY_CTX *context;
	char group[64];
	bool ok;

	if (!public || !EVP_PKEY_is_a(public, "EC") || EVP_PKEY_get_group_name(public, group, sizeof(group), NULL) != 1 ||
	    strcmp(group, SN_X9_62_prime256v1) != 0)
		return weft_err_set(err, EINVAL, "the certificate of key %llu has no P-256 key", (unsigned long long)key);
	context = EVP_PKEY_CTX_new_from_name(library(), "EC", NULL);
	ok = context && EVP_PKEY_fromdata_init(context) == 1 && EVP_PKEY_fromdata(context, &made, EVP_PKEY_KEYPAIR, params) == 1;
	EVP_PKEY_CTX_free(context);
	if (!ok)
		return weft_err_set(err, ENOMEM, "OpenSSL does not take key %llu: out of memory?", (unsigned long long)key);
	*ret_key = made;
	return 0;
}

void weft_remote_waiter(struct weft_remote_keys *keys, void *waiter)
{
	keys->waiter = waiter;
}

void weft_remote_forget(struct weft_remote_keys *keys, void *waiter)
{
	if (keys->waiter == waiter)
		keys->waiter = NULL;
	for (struct request *request = keys->requests, *next; request; request = next) {
		next = request->hh.next;
		if (request->waiter != waiter)
			continue;
		request->done = true;
		request->error = -ECANCELED;
		resume(request);
	}
}

static void finish(struct weft_remote_keys *keys, struct request *request, int error)
{
	request->done = true;
	request->error = error;
	if (keys->ops.ready)
		keys->ops.ready(keys->ops.context, request->waiter); /* it may be over after this */
}

void weft_remote_signed(struct weft_remote_keys *keys, uint32_t serial, int error, const void *signature, size_t size)
{
	struct request *request;

	HASH_FIND(hh, keys->requests, &serial, sizeof(serial), request);
	if (!request || request->done)
		return;
	if (error > 0)
		error = -error;
	if (!error && (size == 0 || size > sizeof(request->signature)))
		error = -EBADMSG;
	if (!error) {
		memcpy(request->signature, signature, size);
		request->size = size;
	}
	finish(keys, request, error);
}

void weft_remote_lost(struct weft_remote_keys *keys)
{
	struct request *request;

	/* From the start after each: whoever is told may end others. */
	do {
		for (request = keys->requests; request && request->done; request = request->hh.next)
			;
		if (request)
			finish(keys, request, -ECONNRESET);
	} while (request);
}
