/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/keys.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "ctl/datagram.h"

#define WAY(way) (1u << WEFT_KEYS_##way)
#define DIGEST_SIZE 32 /* SHA-256 */

/* What each type may look like; a type without a row does not exist. */
static const struct shape {
	const char *name;
	unsigned int ways;
	enum { BULK_NEVER, BULK_ALWAYS, BULK_ON_ERROR } bulk;
} shapes[WEFT_KEYS_MESSAGE_TYPE_MAX_] = {
	[WEFT_KEYS_WANT] = { "WANT", WAY(FROM_CONTROL), BULK_ALWAYS },
	[WEFT_KEYS_LOG_LEVEL] = { "LOG_LEVEL", WAY(FROM_CONTROL), BULK_NEVER },
	[WEFT_KEYS_IDENTITY] = { "IDENTITY", WAY(TO_CONTROL) | WAY(TO_PROXY), BULK_ALWAYS },
	[WEFT_KEYS_GONE] = { "GONE", WAY(TO_CONTROL) | WAY(TO_PROXY), BULK_ALWAYS },
	[WEFT_KEYS_TRUST] = { "TRUST", WAY(TO_CONTROL) | WAY(TO_PROXY), BULK_ALWAYS },
	[WEFT_KEYS_STATE] = { "STATE", WAY(TO_CONTROL), BULK_ON_ERROR },
	[WEFT_KEYS_SIGN] = { "SIGN", WAY(FROM_PROXY), BULK_NEVER },
	[WEFT_KEYS_SIGNED] = { "SIGNED", WAY(TO_PROXY), BULK_NEVER },
};

const char *weft_keys_type_name(unsigned int type)
{
	return type < WEFT_ARRAY_SIZE(shapes) ? shapes[type].name : NULL;
}

struct weft_keys_message weft_keys_message(enum weft_keys_message_type type, __u32 serial)
{
	return (struct weft_keys_message){
		.magic = WEFT_ABI_MAGIC, .version = WEFT_KEYS_VERSION, .type = (__u16)type, .serial = serial
	};
}

static int check_arguments(const struct weft_keys_message *message, struct weft_err *err)
{
	const char *name = shapes[message->type].name;
	bool sign = message->type == WEFT_KEYS_SIGN, answer = message->type == WEFT_KEYS_SIGNED;

	if (message->error > 0)
		return weft_err_set(err, EBADMSG, "%s with error %d, which is positive", name, message->error);
	if (message->error && message->type != WEFT_KEYS_STATE && !answer)
		return weft_err_set(err, EBADMSG, "%s with error %d, it never has one", name, message->error);
	if (message->count > (message->type == WEFT_KEYS_WANT ? WEFT_KEYS_MAX_WANTED : 0))
		return weft_err_set(err, EBADMSG, "%s of %u items", name, message->count);
	if (message->key && !sign && !answer && message->type != WEFT_KEYS_LOG_LEVEL)
		return weft_err_set(err, EBADMSG, "%s with key %llu, it never has one", name, message->key);
	if (message->type == WEFT_KEYS_LOG_LEVEL && message->key >= WEFT_LOG_LEVEL_MAX_)
		return weft_err_set(err, EBADMSG, "%s %llu, which is none", name, message->key);
	if (sign ? message->data_size != DIGEST_SIZE :
	    answer ? message->data_size > WEFT_KEYS_MAX_SIGNED || (message->data_size == 0) != (message->error != 0) :
		     message->data_size != 0)
		return weft_err_set(err, EBADMSG, "%s with %u bytes of data", name, message->data_size);
	return 0;
}

int weft_keys_check(const void *data, size_t size, bool with_fd, enum weft_keys_way way, struct weft_keys_message *ret_message,
		    struct weft_err *err)
{
	static const char *const ways[] = { [WEFT_KEYS_FROM_CONTROL] = "control", [WEFT_KEYS_FROM_PROXY] = "a proxy",
					    [WEFT_KEYS_TO_CONTROL] = "keys to control", [WEFT_KEYS_TO_PROXY] = "keys to a proxy" };
	struct weft_keys_message message;
	const struct shape *shape;
	int r;

	if (size != sizeof(message))
		return weft_err_set(err, EBADMSG, "a message of %zu bytes, expected %zu", size, sizeof(message));
	memcpy(&message, data, sizeof(message));
	if (message.magic != WEFT_ABI_MAGIC)
		return weft_err_set(err, EBADMSG, "a message with magic %#x, expected %#x", message.magic, WEFT_ABI_MAGIC);
	if (message.version != WEFT_KEYS_VERSION)
		return weft_err_set(err, EBADMSG, "a message of version %u, this build speaks %d: all roles must be of one build",
				    message.version, WEFT_KEYS_VERSION);
	if (!weft_keys_type_name(message.type))
		return weft_err_set(err, EBADMSG, "a message of unknown type %u", message.type);
	shape = &shapes[message.type];
	if (!(shape->ways & 1u << way))
		return weft_err_set(err, EBADMSG, "%s came from %s, which never sends it", shape->name, ways[way]);
	if (with_fd != (message.bytes != 0))
		return weft_err_set(err, EBADMSG, "%s announces %llu bytes and comes %s a descriptor", shape->name, message.bytes,
				    with_fd ? "with" : "without");
	if (message.bytes > WEFT_KEYS_MAX_BYTES)
		return weft_err_set(err, EBADMSG, "%s with %llu bytes, the limit is %u", shape->name, message.bytes, WEFT_KEYS_MAX_BYTES);
	if ((shape->bulk == BULK_ALWAYS || (shape->bulk == BULK_ON_ERROR && message.error)) != (message.bytes != 0))
		return weft_err_set(err, EBADMSG, "%s with %llu bytes", shape->name, message.bytes);
	r = check_arguments(&message, err);
	if (r < 0)
		return r;
	*ret_message = message;
	return 0;
}

int weft_keys_send(int sock, struct weft_keys_message *message, const void *data, size_t size, int flags)
{
	weft_close_on_exit int fd = -1;

	message->bytes = size;
	if (size) {
		fd = weft_memfd_from("weft-keys", data, size);
		if (fd < 0)
			return fd;
	}
	return weft_datagram_send(sock, message, sizeof(*message), &fd, size ? 1 : 0, flags);
}

int weft_keys_receive(int sock, enum weft_keys_way way, int flags, struct weft_keys_message *ret_message, int *ret_fd,
		      struct weft_err *err)
{
	weft_close_on_exit int fd = -1;
	char room[sizeof(struct weft_keys_message) + 1]; /* one more: a longer datagram shows */
	size_t size, fds;
	int r = weft_datagram_receive(sock, room, sizeof(room), flags, &fd, 1, &size, &fds, err);

	if (r == 0)
		r = weft_keys_check(room, size, fds == 1, way, ret_message, err);
	if (r < 0)
		return r;
	*ret_fd = weft_take_fd(fd);
	return 0;
}

/* ---- what memfds hold ---- */

/* The rest of a block that is being taken apart. */
struct rest {
	const char *at;
	size_t size;
};

static const void *take(struct rest *rest, size_t size)
{
	const void *at = rest->at;

	if (size > rest->size)
		return NULL;
	rest->at += size;
	rest->size -= size;
	return at;
}

/* `size` bytes that are one text: its NUL is the last and the only one. */
static const char *take_text(struct rest *rest, size_t size)
{
	const char *text = size ? take(rest, size) : NULL;

	return text && memchr(text, '\0', size) == text + size - 1 ? text : NULL;
}

int weft_keys_want_put(struct weft_buf *buf, const struct weft_keys_settings *settings)
{
	return weft_buf_add(buf, settings, sizeof(*settings));
}

int weft_keys_want_add(struct weft_buf *buf, const char *id)
{
	return weft_buf_add(buf, id, strlen(id) + 1);
}

int weft_keys_want_open(const void *data, size_t size, uint32_t count, struct weft_keys_want *ret_want, struct weft_err *err)
{
	struct rest rest = { data, size };
	const void *settings = take(&rest, sizeof(ret_want->settings));
	struct weft_keys_want want = { .count = count };

	if (!settings)
		return weft_err_set(err, EBADMSG, "WANT has %zu bytes, its settings alone need %zu", size, sizeof(want.settings));
	memcpy(&want.settings, settings, sizeof(want.settings));
	if (want.settings.source > WEFT_KEYS_SOURCE_FILES || want.settings.ttl_s == 0)
		return weft_err_set(err, EBADMSG, "WANT with source %u and a lifetime of %u s", want.settings.source, want.settings.ttl_s);
	if (!want.settings.trust_domain[0] || !memchr(want.settings.trust_domain, '\0', sizeof(want.settings.trust_domain)))
		return weft_err_set(err, EBADMSG, "WANT with a trust domain that is empty or does not end");
	want.id = rest.at;
	for (uint32_t i = 0; i < count; i++) {
		const char *end = rest.size ? memchr(rest.at, '\0', rest.size) : NULL;

		if (!end || end == rest.at || end - rest.at > WEFT_KEYS_MAX_ID)
			return weft_err_set(err, EBADMSG, "WANT whose id %u of %u is empty, too long or does not end", i, count);
		take(&rest, (size_t)(end - rest.at) + 1);
	}
	if (rest.size)
		return weft_err_set(err, EBADMSG, "WANT with %zu bytes after its last id", rest.size);
	*ret_want = want;
	return 0;
}

static int add_sized(struct weft_buf *buf, const struct weft_keys_bytes *bytes)
{
	__u32 size = (__u32)bytes->size;
	int r = weft_buf_add(buf, &size, sizeof(size));

	return r < 0 ? r : weft_buf_add(buf, bytes->data, bytes->size);
}

int weft_keys_identity_put(struct weft_buf *buf, const struct weft_keys_pair *pair)
{
	struct weft_keys_identity head = { .key = pair->key,
					   .not_before = pair->not_before,
					   .not_after = pair->not_after,
					   .id_size = (__u32)strlen(pair->id) + 1,
					   .count = (__u32)pair->count };
	int r = weft_buf_add(buf, &head, sizeof(head));

	if (r == 0)
		r = weft_buf_add(buf, pair->id, head.id_size);
	for (size_t i = 0; r == 0 && i < pair->count; i++)
		r = add_sized(buf, &pair->chain[i]);
	return r;
}

int weft_keys_identity_open(const void *data, size_t size, struct weft_keys_pair *ret_pair, struct weft_err *err)
{
	struct rest rest = { data, size };
	struct weft_keys_pair pair = { .key = 0 };
	struct weft_keys_identity head;
	const void *at = take(&rest, sizeof(head));

	if (!at)
		return weft_err_set(err, EBADMSG, "IDENTITY has %zu bytes, at least %zu are needed", size, sizeof(head));
	memcpy(&head, at, sizeof(head));
	if (head.key == 0 || head.not_after < head.not_before || head.count == 0 || head.count > WEFT_KEYS_MAX_CHAIN)
		return weft_err_set(err, EBADMSG, "IDENTITY with key %llu, from %lld to %lld, and %u certificates", head.key, head.not_before,
				    head.not_after, head.count);
	pair.key = head.key;
	pair.not_before = head.not_before;
	pair.not_after = head.not_after;
	pair.id = head.id_size <= WEFT_KEYS_MAX_ID + 1 ? take_text(&rest, head.id_size) : NULL;
	if (!pair.id || !*pair.id)
		return weft_err_set(err, EBADMSG, "IDENTITY whose id of %u bytes is empty, too long or does not end", head.id_size);
	for (; pair.count < head.count; pair.count++) {
		__u32 length = 0;

		at = take(&rest, sizeof(length));
		if (at)
			memcpy(&length, at, sizeof(length));
		at = length && length <= WEFT_KEYS_MAX_DER ? take(&rest, length) : NULL;
		if (!at)
			return weft_err_set(err, EBADMSG, "IDENTITY whose certificate %zu has %u bytes", pair.count, length);
		pair.chain[pair.count] = (struct weft_keys_bytes){ at, length };
	}
	if (rest.size)
		return weft_err_set(err, EBADMSG, "IDENTITY with %zu bytes after its last certificate", rest.size);
	*ret_pair = pair;
	return 0;
}

int weft_keys_trust_put(struct weft_buf *buf)
{
	struct weft_keys_trust head = { .count = 0 };

	return weft_buf_add(buf, &head, sizeof(head));
}

int weft_keys_trust_add(struct weft_buf *buf, const struct weft_keys_anchor *anchor)
{
	struct weft_keys_trust_item item = { .type = anchor->type,
					     .domain_size = (__u32)strlen(anchor->domain) + 1,
					     .size = (__u32)anchor->der.size };
	struct weft_keys_trust head;
	int r = weft_buf_add(buf, &item, sizeof(item));

	if (r == 0)
		r = weft_buf_add(buf, anchor->domain, item.domain_size);
	if (r == 0)
		r = weft_buf_add(buf, anchor->der.data, anchor->der.size);
	if (r < 0)
		return r;
	memcpy(&head, buf->data, sizeof(head));
	head.count++;
	memcpy(buf->data, &head, sizeof(head));
	return 0;
}

static int take_anchor(struct rest *rest, struct weft_keys_anchor *anchor)
{
	struct weft_keys_trust_item item;
	const void *at = take(rest, sizeof(item));

	if (!at)
		return -EBADMSG;
	memcpy(&item, at, sizeof(item));
	if ((item.type != WEFT_KEYS_TRUST_ROOT && item.type != WEFT_KEYS_TRUST_CRL) || item.pad || item.size == 0 ||
	    item.size > WEFT_KEYS_MAX_DER || item.domain_size > 256)
		return -EBADMSG;
	anchor->type = item.type;
	anchor->domain = take_text(rest, item.domain_size);
	anchor->der = (struct weft_keys_bytes){ anchor->domain ? take(rest, item.size) : NULL, item.size };
	return anchor->der.data && *anchor->domain ? 0 : -EBADMSG;
}

int weft_keys_trust_open(const void *data, size_t size, uint32_t *ret_count, struct weft_err *err)
{
	struct rest rest = { data, size };
	struct weft_keys_anchor anchor;
	struct weft_keys_trust head;
	const void *at = take(&rest, sizeof(head));

	if (!at)
		return weft_err_set(err, EBADMSG, "TRUST has %zu bytes, at least %zu are needed", size, sizeof(head));
	memcpy(&head, at, sizeof(head));
	if (head.pad)
		return weft_err_set(err, EBADMSG, "TRUST with padding that is not zero");
	for (uint32_t i = 0; i < head.count; i++)
		if (take_anchor(&rest, &anchor) < 0)
			return weft_err_set(err, EBADMSG, "TRUST whose item %u of %u is malformed", i, head.count);
	if (rest.size)
		return weft_err_set(err, EBADMSG, "TRUST with %zu bytes after its last item", rest.size);
	*ret_count = head.count;
	return 0;
}

bool weft_keys_trust_next(const void *data, size_t size, size_t *at, struct weft_keys_anchor *ret_anchor)
{
	size_t from = *at ? *at : sizeof(struct weft_keys_trust);
	struct rest rest = { (const char *)data + from, size - from };

	if (rest.size == 0 || take_anchor(&rest, ret_anchor) < 0)
		return false;
	*at = size - rest.size;
	return true;
}

int weft_keys_text_open(const void *data, size_t size, const char **ret_text, struct weft_err *err)
{
	struct rest rest = { data, size };
	const char *text = take_text(&rest, size);

	if (!text || !*text)
		return weft_err_set(err, EBADMSG, "a text of %zu bytes that is empty or does not end where it should", size);
	*ret_text = text;
	return 0;
}
