/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `keys` is asked and answers: by `control`, which says whose certificates
 * this node needs, and by each `proxy`, which has signatures made for its
 * handshakes. A private key never crosses here: there is no message for it.
 *
 * One SOCK_SEQPACKET datagram, a struct weft_keys_message; bulk in one memfd
 * attached to it, sealed, validated by its reader. All roles are of one build:
 * the version only refuses a mixed pair.
 */
#ifndef WEFT_ABI_KEYS_H
#define WEFT_ABI_KEYS_H

#include "weft/abi/types.h"

#define WEFT_KEYS_VERSION 1
#define WEFT_KEYS_MAX_SIGNED 256 /* bytes to be signed, or of a signature: P-256 needs 32 and 72 */
#define WEFT_KEYS_MAX_ID 2048 /* of a SPIFFE id: SPIFFE-ID section 2.3 */
#define WEFT_KEYS_MAX_WANTED 4096 /* identities of one node */
#define WEFT_KEYS_MAX_CHAIN 8 /* certificates that go with an identity */
#define WEFT_KEYS_MAX_DER (4u << 20) /* of one certificate or CRL */
#define WEFT_KEYS_MAX_BYTES (16u << 20) /* of a memfd */

enum weft_keys_message_type {
	/* control -> keys; answered by STATE, now and whenever something of it changes */
	WEFT_KEYS_WANT = 1, /* memfd: struct weft_keys_settings, then `count` SPIFFE ids, each NUL-terminated: all that are needed from now on */
	WEFT_KEYS_LOG_LEVEL, /* key = enum weft_log_level */
	/* keys -> control and each proxy */
	WEFT_KEYS_IDENTITY, /* memfd: struct weft_keys_identity and what it counts; replaces what was there for that id */
	WEFT_KEYS_GONE, /* memfd: the SPIFFE id, NUL-terminated */
	WEFT_KEYS_TRUST, /* memfd: struct weft_keys_trust and what it counts; replaces all trust */
	/* keys -> control */
	WEFT_KEYS_STATE, /* error = 0, or -errno of what goes wrong with `text` in the memfd: a sentence, NUL-terminated */
	/* proxy -> keys, answered by SIGNED with the same serial */
	WEFT_KEYS_SIGN, /* key, data: SHA-256 digest to be signed by ECDSA */
	/* keys -> proxy */
	WEFT_KEYS_SIGNED, /* error = 0 and data: DER signature; -ENOENT: that key is no longer here */
	WEFT_KEYS_MESSAGE_TYPE_MAX_
};

struct weft_keys_message {
	__u32 magic; /* WEFT_ABI_MAGIC */
	__u16 version; /* WEFT_KEYS_VERSION */
	__u16 type; /* enum weft_keys_message_type */
	__u32 serial;
	__s32 error;
	__u64 key; /* id of a key pair; never given twice, also not by a restarted `keys` */
	__u64 bytes; /* of the memfd that comes along; 0: none */
	__u32 count;
	__u32 data_size;
	__u8 data[WEFT_KEYS_MAX_SIGNED];
};
WEFT_ABI_SIZE(struct weft_keys_message, 296);

enum weft_keys_source {
	WEFT_KEYS_SOURCE_EMBEDDED = 0, /* the CA in the state folder */
	WEFT_KEYS_SOURCE_FILES, /* SPIFFE helper's or cert-manager's layout */
};

struct weft_keys_settings {
	__u32 source; /* enum weft_keys_source */
	__u32 ttl_s; /* of a certificate that the embedded CA issues */
	char trust_domain[256];
};
WEFT_ABI_SIZE(struct weft_keys_settings, 264);

/* Then: the SPIFFE id with its NUL; then `count` certificates, leaf first, each a __u32 size and DER. */
struct weft_keys_identity {
	__u64 key;
	__s64 not_before; /* of the leaf, seconds since the epoch */
	__s64 not_after;
	__u32 id_size; /* with the NUL */
	__u32 count;
};
WEFT_ABI_SIZE(struct weft_keys_identity, 32);

/* Then `count` items: struct weft_keys_trust_item, the trust domain with its NUL, DER. */
struct weft_keys_trust {
	__u32 count;
	__u32 pad;
};
WEFT_ABI_SIZE(struct weft_keys_trust, 8);

enum weft_keys_trust_type {
	WEFT_KEYS_TRUST_ROOT = 1, /* a certificate */
	WEFT_KEYS_TRUST_CRL,
};

struct weft_keys_trust_item {
	__u32 type; /* enum weft_keys_trust_type */
	__u32 domain_size; /* with the NUL */
	__u32 size; /* of the DER */
	__u32 pad;
};
WEFT_ABI_SIZE(struct weft_keys_trust_item, 16);

#endif
