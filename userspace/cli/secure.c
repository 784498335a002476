/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/secure.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "cli/agent.h"

struct entry {
	char *key;
	struct weft_secure_conn conn;
};

struct weft_secure_conns {
	struct json_object *answer; /* what entries point into */
	struct entry *entry;
	size_t count;
};

/*
 * A client's own end is its alone. A server's is that of all its connections, so the other end counts too; a client's other
 * end is the agent's listener, which the kernel's records may show as what it stands for.
 */
static char *make_key(bool server, uint64_t netns, const char *local, const char *remote)
{
	char *key;

	return asprintf(&key, "%" PRIu64 " %s%s%s", netns, local, server ? " " : "", server ? remote : "") < 0 ? NULL : key;
}

static int by_key(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;

	return strcmp(a->key, b->key);
}

struct weft_secure_conns *weft_secure_conns_ask(const struct weft_options *options)
{
	weft_cleanup(weft_secure_conns_freep) struct weft_secure_conns *conns = calloc(1, sizeof(*conns));
	struct json_object *list;
	struct weft_err ignored;
	size_t count;

	if (!conns || weft_agent_ask(options, "conn.secure", "connections", &conns->answer, &ignored) < 0)
		return NULL;
	list = weft_agent_member(conns->answer, "connections", json_type_array);
	count = list ? json_object_array_length(list) : 0;
	conns->entry = calloc(count + 1, sizeof(*conns->entry));
	if (!conns->entry)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		struct json_object *object = json_object_array_get_idx(list, i);
		struct entry *entry = &conns->entry[conns->count];

		entry->key = make_key(strcmp(weft_agent_text(object, "role"), "server") == 0, weft_agent_number(object, "netns"),
				      weft_agent_text(object, "local"), weft_agent_text(object, "remote"));
		if (!entry->key)
			return NULL;
		entry->conn = (struct weft_secure_conn){ weft_agent_text(object, "security"), weft_agent_text(object, "identity"),
							 weft_agent_text(object, "peer_identity") };
		conns->count++;
	}
	qsort(conns->entry, conns->count, sizeof(*conns->entry), by_key);
	return weft_take_ptr(conns);
}

struct weft_secure_conns *weft_secure_conns_free(struct weft_secure_conns *conns)
{
	if (!conns)
		return NULL;
	for (size_t i = 0; i < conns->count; i++)
		free(conns->entry[i].key);
	free(conns->entry);
	json_object_put(conns->answer);
	free(conns);
	return NULL;
}

bool weft_secure_conns_find(const struct weft_secure_conns *conns, const struct weft_conn *conn, struct weft_secure_conn *ret_conn)
{
	char local[WEFT_ADDR_TEXT], remote[WEFT_ADDR_TEXT];
	weft_free_on_exit char *key = NULL;
	struct entry wanted, *found;

	if (!conns || !conns->count)
		return false;
	key = make_key(conn->role == WEFT_ROLE_SERVER, conn->netns, weft_addr_port_format(&conn->local, ntohs(conn->local_port), local),
		       weft_addr_port_format(&conn->remote, ntohs(conn->remote_port), remote));
	if (!key)
		return false;
	wanted.key = key;
	found = bsearch(&wanted, conns->entry, conns->count, sizeof(wanted), by_key);
	if (!found)
		return false;
	*ret_conn = found->conn;
	return true;
}
