/* SPDX-License-Identifier: Apache-2.0 */
/* The signer of the embedded CA: takes up what is in the folder, signs leaves, says whom to believe. */
#include "tls/ca.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/stat.h>

#include "tls/authority.h"
#include "tls/cert.h"
#include "tls/key.h"

#define LEAF_SKEW 60l
#define LOOK_US 1000000ull /* between looks at the files */

static const char *const files[] = { WEFT_CA_ROOT_FILE, WEFT_CA_INTERMEDIATE_FILE, WEFT_CA_OTHERS_FILE, WEFT_CA_CRL_FILE };

struct ca {
	struct weft_signer signer;
	int dir;
	sd_event_source *look;
	struct stat seen[WEFT_ARRAY_SIZE(files)];
	struct weft_authority authority;
	struct weft_err trouble; /* with the files as they are; the last good ones are in use */
	int error;
};

static bool look_at(struct ca *ca)
{
	bool changed = false;

	for (size_t i = 0; i < WEFT_ARRAY_SIZE(files); i++) {
		struct stat st = { 0 }, *seen = &ca->seen[i];

		if (fstatat(ca->dir, files[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			memset(&st, 0, sizeof(st));
		changed |= st.st_ino != seen->st_ino || st.st_size != seen->st_size || st.st_mode != seen->st_mode || st.st_uid != seen->st_uid ||
			   st.st_mtim.tv_sec != seen->st_mtim.tv_sec || st.st_mtim.tv_nsec != seen->st_mtim.tv_nsec;
		*seen = st;
	}
	return changed;
}

static int take_up(struct ca *ca)
{
	struct weft_authority fresh;
	int r = weft_authority_load(ca->dir, &fresh, &ca->trouble);

	if (r == 0 && ca->authority.root && strcmp(fresh.domain, ca->authority.domain) != 0) {
		r = weft_err_set(&ca->trouble, EEXIST, "the CA's files are now for trust domain %s, this node's is %s: restart weftd with that one "
				 "in MeshConfig, or put them back", fresh.domain, ca->authority.domain);
		weft_authority_done(&fresh);
	}
	ca->error = r;
	if (r < 0)
		return r;
	ca->trouble.text[0] = '\0';
	weft_authority_done(&ca->authority);
	ca->authority = fresh;
	return 0;
}

static int on_look(sd_event_source *source, uint64_t usec, void *context)
{
	struct ca *ca = context;

	(void)usec;
	if (look_at(ca)) {
		take_up(ca);
		ca->signer.events.changed(ca->signer.events.context);
	}
	sd_event_source_set_time_relative(source, LOOK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Half of its time is gone, and the root is here to make the next one. */
static int renew(struct ca *ca, time_t now, struct weft_err *err)
{
	weft_cleanup(weft_authority_done) struct weft_authority found = { .root = NULL };
	weft_key_on_exit EVP_PKEY *root_key = NULL, *key = NULL;
	weft_x509_on_exit X509 *certificate = NULL;
	int r = weft_authority_load_rooted(ca->dir, &found, &root_key, err);

	if (r == 0)
		r = weft_authority_make_intermediate(found.domain, found.root, root_key, now, &certificate, &key, err);
	if (r == 0)
		r = weft_authority_write_pair(ca->dir, WEFT_CA_INTERMEDIATE_FILE, certificate, key, err);
	return r < 0 ? r : take_up(ca);
}

static bool half_gone(const X509 *certificate, time_t now)
{
	time_t from = weft_pem_time(X509_get0_notBefore(certificate)), to = weft_pem_time(X509_get0_notAfter(certificate));

	return now >= from + (to - from) / 2;
}

static void request_freep(X509_REQ **request)
{
	X509_REQ_free(*request);
}

static int ca_request(struct weft_signer *signer, const struct weft_signer_request *request, struct weft_err *err)
{
	struct ca *ca = (struct ca *)signer;
	const unsigned char *at = request->csr ? request->csr->data : NULL;
	weft_cleanup(request_freep) X509_REQ *csr = at ? d2i_X509_REQ(NULL, &at, (long)request->csr->size) : NULL;
	struct weft_der chain[2] = { { NULL, 0 } };
	weft_x509_on_exit X509 *leaf = NULL;
	struct weft_spiffe id;
	time_t now = time(NULL), end;
	EVP_PKEY *key;
	int r;

	ERR_clear_error();
	if (weft_spiffe_parse(request->id, strlen(request->id), &id, err) < 0)
		return -EINVAL;
	if (strlen(ca->authority.domain) != id.trust_domain_size || memcmp(id.trust_domain, ca->authority.domain, id.trust_domain_size) != 0)
		return weft_err_set(err, EINVAL, "%s is not of the CA's trust domain, %s", request->id, ca->authority.domain);
	key = csr ? X509_REQ_get0_pubkey(csr) : NULL;
	if (!key || X509_REQ_verify(csr, key) != 1)
		return weft_err_set(err, EINVAL, "%s: the request is not signed with the key that it names", request->id);
	if (ca->authority.rooted && half_gone(ca->authority.intermediate, now))
		renew(ca, now, &ca->trouble); /* in good time: the old one goes on if it fails */
	end = weft_pem_time(X509_get0_notAfter(ca->authority.intermediate));
	if (end <= now)
		return weft_err_set(err, EKEYEXPIRED, "this node's intermediate certificate has ended: join it anew with `weft ca join`");
	r = weft_authority_issue(WEFT_AUTHORITY_LEAF, request->id, key, ca->authority.intermediate, ca->authority.key, now - LEAF_SKEW,
				 now + request->ttl_s < end ? now + request->ttl_s : end, &leaf);
	if (r == 0)
		r = weft_pem_der(leaf, &chain[0]);
	if (r == 0)
		r = weft_pem_der(ca->authority.intermediate, &chain[1]);
	if (r < 0)
		weft_err_set(err, r, "%s: cannot make a certificate: %m", request->id);
	else
		signer->events.answered(signer->events.context, request->id, 0, &(struct weft_signer_answer){ chain, 2, NULL }, NULL);
	OPENSSL_free((void *)chain[0].data);
	OPENSSL_free((void *)chain[1].data);
	return r;
}

struct each {
	int (*call)(void *context, bool crl, const char *domain, const struct weft_der *der);
	void *context;
	const char *domain;
};

static int tell_root(const struct each *each, X509 *root, time_t now)
{
	struct weft_der der;
	int r;

	if (weft_pem_time(X509_get0_notAfter(root)) <= now)
		return 0;
	r = weft_pem_der(root, &der);
	if (r == 0) {
		r = each->call(each->context, false, each->domain, &der);
		OPENSSL_free((void *)der.data);
	}
	return r;
}

static int ca_trust(struct weft_signer *signer, int (*call)(void *context, bool crl, const char *domain, const struct weft_der *der),
		    void *context, struct weft_err *err)
{
	struct ca *ca = (struct ca *)signer;
	const struct each each = { call, context, ca->authority.domain };
	time_t now = time(NULL);
	int r = tell_root(&each, ca->authority.root, now);

	for (size_t i = 0; r == 0 && i < ca->authority.others.count; i++)
		if (X509_cmp(ca->authority.others.certificate[i], ca->authority.root) != 0)
			r = tell_root(&each, ca->authority.others.certificate[i], now);
	for (size_t i = 0; r == 0 && i < ca->authority.crls.crl_count; i++) {
		unsigned char *data = NULL;
		int size = i2d_X509_CRL(ca->authority.crls.crl[i], &data);

		r = size > 0 ? call(context, true, ca->authority.domain, &(struct weft_der){ data, (size_t)size }) : -ENOMEM;
		OPENSSL_free(data);
	}
	return r < 0 ? weft_err_set(err, r, "cannot read whom the CA believes: %m") : r;
}

static int ca_state(struct weft_signer *signer, struct weft_err *err)
{
	struct ca *ca = (struct ca *)signer;
	time_t now = time(NULL), end = weft_pem_time(X509_get0_notAfter(ca->authority.intermediate));

	if (ca->trouble.text[0])
		return weft_err_set(err, ca->error ? ca->error : -EIO, "%s", ca->trouble.text);
	if (!ca->authority.rooted && end - now < WEFT_CA_INTERMEDIATE_LIFE / 4)
		return weft_err_set(err, EKEYEXPIRED, "this node's intermediate certificate ends in %ld days: join it anew with `weft ca join`",
				    end > now ? (end - now) / WEFT_CA_DAY : 0l);
	if (weft_pem_time(X509_get0_notAfter(ca->authority.root)) - now < WEFT_CA_INTERMEDIATE_LIFE)
		return weft_err_set(err, EKEYEXPIRED, "the CA's root ends in less than a year: rotate it with `weft ca rotate`");
	return 0;
}

static void ca_free(struct weft_signer *signer)
{
	struct ca *ca = (struct ca *)signer;

	sd_event_source_disable_unref(ca->look);
	weft_authority_done(&ca->authority);
	free(ca);
}

int weft_ca_signer_new(sd_event *loop, int dir, const char *domain, const struct weft_signer_events *events,
		       struct weft_signer **ret_signer, struct weft_err *err)
{
	static const struct weft_signer_ops ops = { .request = ca_request, .trust = ca_trust, .state = ca_state, .free = ca_free };
	weft_cleanup(weft_signer_freep) struct weft_signer *signer = NULL;
	struct ca *ca;
	int r;

	if (!weft_trust_domain_valid(domain, strlen(domain)))
		return weft_err_set(err, EINVAL, "%s is no trust domain", domain);
	r = weft_authority_check_mode(dir, "the CA's folder", 0700, err);
	if (r < 0)
		return r;
	ca = calloc(1, sizeof(*ca));
	if (!ca)
		return weft_err_set(err, ENOMEM, "out of memory");
	ca->signer = (struct weft_signer){ &ops, *events };
	ca->dir = dir;
	signer = &ca->signer;
	look_at(ca);
	r = weft_authority_load(dir, &ca->authority, err);
	if (r == -ENOENT) {
		r = weft_authority_create(dir, domain, time(NULL), err);
		look_at(ca);
		if (r == 0)
			r = weft_authority_load(dir, &ca->authority, err);
	}
	if (r < 0)
		return r;
	if (strcmp(ca->authority.domain, domain) != 0)
		return weft_err_set(err, EEXIST, "the CA of this node is for trust domain %s, the mesh's is %s: set it back in MeshConfig, or "
				    "remove the files of the CA to begin anew, which ends all identities", ca->authority.domain, domain);
	r = sd_event_add_time_relative(loop, &ca->look, CLOCK_MONOTONIC, LOOK_US, LOOK_US / 10, on_look, ca);
	if (r < 0)
		return weft_err_set(err, r, "cannot watch the CA's files: %m");
	*ret_signer = weft_take_ptr(signer);
	return 0;
}
