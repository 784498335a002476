/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/view.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/io.h"
#include "cli/words.h"

#define NAMES_MAX (1u << 30)

/* A recount takes milliseconds, and with larger maps some hundreds: who asks in the middle waits. */
#define RECOUNT_LOOKS 100
#define RECOUNT_LOOK_NS 10000000

struct weft_view {
	struct weft_reader *reader;
	struct weft_names *names;
	struct weft_view_frontend *frontends;
	size_t frontends_count;
	struct weft_endpoint *endpoints;
	size_t endpoints_count;
	struct weft_slot *slots;
	size_t slots_count;
	struct weft_live *live;
	size_t live_count;
	uint32_t epoch; /* says which half of `live` is in force */
	bool counted; /* and that it is right */
	bool have_frontends, have_endpoints, have_slots, have_live;
};

static void names_read(struct weft_view *view, const char *state)
{
	weft_buf_done_on_exit struct weft_buf text = WEFT_BUF_INIT;
	weft_close_on_exit int fd = -1;
	static bool said; /* `top` and `conn watch` open one view after another */
	struct weft_err err = { 0 };
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/names", state);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -errno : weft_read_all(fd, NAMES_MAX, &text);
	if (r == 0)
		r = weft_names_parse(view->names, text.data ? text.data : "", text.size, &err);
	if (r < 0 && !said)
		fprintf(stderr, "weft: %s: %s; ids stand for the names that are not known (--state says where it is)\n",
			path, err.text[0] ? err.text : strerror(-r));
	said = said || r < 0;
}

int weft_view_open(const struct weft_options *options, struct weft_view **ret_view, struct weft_err *err)
{
	weft_cleanup(weft_view_closep) struct weft_view *view = calloc(1, sizeof(*view));
	int r;

	if (!view)
		return weft_err_set(err, ENOMEM, "out of memory");
	r = weft_reader_open(options->pins, &view->reader, err);
	if (r < 0)
		return r;
	view->names = weft_names_new();
	if (!view->names)
		return weft_err_set(err, ENOMEM, "out of memory");
	names_read(view, options->state);
	*ret_view = weft_take_ptr(view);
	return 0;
}

struct weft_view *weft_view_close(struct weft_view *view)
{
	if (!view)
		return NULL;
	weft_reader_close(view->reader);
	weft_names_free(view->names);
	free(view->frontends);
	free(view->endpoints);
	free(view->slots);
	free(view->live);
	free(view);
	return NULL;
}

struct weft_reader *weft_view_reader(struct weft_view *view)
{
	return view->reader;
}

const struct weft_names *weft_view_names(struct weft_view *view)
{
	return view->names;
}

static const char *map_name(enum weft_map map)
{
	static const char *const name[] = {
#define WEFT_MAP(NAME, name, key, value, owner, sentence) name,
#include "weft/lists/map.h"
#undef WEFT_MAP
	};

	return name[map];
}

int weft_view_all(struct weft_view *view, enum weft_map map, struct weft_buf *keys, struct weft_buf *values,
		  size_t *ret_count, struct weft_err *err)
{
	int r = weft_reader_all(view->reader, map, keys, values, ret_count);

	if (r < 0)
		return weft_err_set(err, r, "cannot read map %s: %s", map_name(map), strerror(-r));
	return 0;
}

int weft_view_get(struct weft_view *view, enum weft_map map, const void *key, void *ret_value, struct weft_err *err)
{
	int r = weft_reader_get(view->reader, map, key, ret_value);

	if (r < 0 && r != -ENOENT)
		return weft_err_set(err, r, "cannot read map %s: %s", map_name(map), strerror(-r));
	return r;
}

int weft_view_setting(struct weft_view *view, struct weft_setting *ret_setting, struct weft_err *err)
{
	uint32_t zero = 0;
	int r = weft_view_get(view, WEFT_MAP_SETTING, &zero, ret_setting, err);

	return r == -ENOENT ? weft_err_set(err, r, "map weft_setting is empty: the pins are damaged") : r;
}

/* Contents of an ARRAY, by index. */
static int array(struct weft_view *view, enum weft_map map, size_t size, void *ret_items, size_t *ret_count,
		 struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	weft_free_on_exit char *items = NULL;
	const uint32_t *index;
	size_t count, top = 0;
	int r;

	r = weft_view_all(view, map, &keys, &values, &count, err);
	if (r < 0)
		return r;
	index = (const uint32_t *)(const void *)keys.data;
	for (size_t i = 0; i < count; i++)
		if (index[i] >= top)
			top = (size_t)index[i] + 1;
	items = calloc(top ? top : 1, size);
	if (!items)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		memcpy(items + index[i] * size, values.data + i * size, size);
	*(void **)ret_items = weft_take_ptr(items);
	*ret_count = top;
	return 0;
}

static int compare_frontends(const void *left, const void *right)
{
	const struct weft_view_frontend *a = left, *b = right;

	if (a->value.service != b->value.service)
		return a->value.service < b->value.service ? -1 : 1;
	if (a->value.type != b->value.type)
		return a->value.type < b->value.type ? -1 : 1;
	return memcmp(&a->key, &b->key, sizeof(a->key));
}

int weft_view_frontends(struct weft_view *view, const struct weft_view_frontend **ret_frontends, size_t *ret_count,
			struct weft_err *err)
{
	weft_buf_done_on_exit struct weft_buf keys = WEFT_BUF_INIT, values = WEFT_BUF_INIT;
	size_t count;
	int r;

	if (!view->have_frontends) {
		r = weft_view_all(view, WEFT_MAP_FRONTEND, &keys, &values, &count, err);
		if (r < 0)
			return r;
		view->frontends = calloc(count ? count : 1, sizeof(*view->frontends));
		if (!view->frontends)
			return weft_err_set(err, ENOMEM, "out of memory");
		for (size_t i = 0; i < count; i++) {
			memcpy(&view->frontends[i].key, keys.data + i * sizeof(struct weft_frontend_key),
			       sizeof(struct weft_frontend_key));
			memcpy(&view->frontends[i].value, values.data + i * sizeof(struct weft_frontend),
			       sizeof(struct weft_frontend));
		}
		qsort(view->frontends, count, sizeof(*view->frontends), compare_frontends);
		view->frontends_count = count;
		view->have_frontends = true;
	}
	*ret_frontends = view->frontends;
	*ret_count = view->frontends_count;
	return 0;
}

int weft_view_endpoints(struct weft_view *view, const struct weft_endpoint **ret_endpoints, size_t *ret_count,
			struct weft_err *err)
{
	int r;

	if (!view->have_endpoints) {
		r = array(view, WEFT_MAP_ENDPOINT, sizeof(*view->endpoints), &view->endpoints, &view->endpoints_count,
			  err);
		if (r < 0)
			return r;
		view->have_endpoints = true;
	}
	*ret_endpoints = view->endpoints;
	*ret_count = view->endpoints_count;
	return 0;
}

static int read_live(struct weft_view *view, struct weft_err *err)
{
	const struct timespec look = { .tv_nsec = RECOUNT_LOOK_NS };
	struct weft_setting before, after;
	int r = weft_view_setting(view, &before, err);

	for (unsigned int i = 0; r == 0 && before.flags & WEFT_SETTING_F_RECOUNT && i < RECOUNT_LOOKS; i++) {
		nanosleep(&look, NULL);
		r = weft_view_setting(view, &before, err);
	}
	if (r == 0)
		r = array(view, WEFT_MAP_LIVE, sizeof(*view->live), &view->live, &view->live_count, err);
	if (r == 0)
		r = weft_view_setting(view, &after, err);
	if (r < 0)
		return r;
	view->epoch = before.epoch;
	/* One that began while we read took the other half's place. */
	view->counted = !((before.flags | after.flags) & WEFT_SETTING_F_RECOUNT) && before.epoch == after.epoch;
	return 0;
}

int weft_view_live(struct weft_view *view, uint32_t endpoint, uint64_t *ret_live, struct weft_err *err)
{
	uint32_t index = WEFT_ENDPOINT_INDEX(endpoint);
	int r;

	if (!view->have_live) {
		r = read_live(view, err);
		if (r < 0)
			return r;
		view->have_live = true;
	}
	*ret_live = index < view->live_count ? view->live[index].count[view->epoch & 1] : 0;
	return 0;
}

bool weft_view_counted(const struct weft_view *view)
{
	return !view->have_live || view->counted;
}

struct draw {
	uint32_t endpoint;
	double share;
};

static int compare_draws(const void *left, const void *right)
{
	const struct draw *a = left, *b = right;

	return a->endpoint < b->endpoint ? -1 : a->endpoint > b->endpoint;
}

static int compare_candidates(const void *left, const void *right)
{
	const struct weft_view_candidate *a = left, *b = right;
	int order = weft_addr_compare(&a->endpoint.addr, &b->endpoint.addr);

	if (order)
		return order;
	return (int)ntohs(a->endpoint.port) - (int)ntohs(b->endpoint.port);
}

int weft_view_candidates(struct weft_view *view, const struct weft_frontend *frontend,
			 struct weft_view_candidate **ret_candidates, size_t *ret_count, struct weft_err *err)
{
	weft_free_on_exit struct weft_view_candidate *candidates = NULL;
	weft_free_on_exit struct draw *draws = NULL;
	const struct weft_endpoint *endpoints;
	size_t endpoints_count, count = 0, draws_count = 0;
	int r;

	if (!view->have_slots) {
		r = array(view, WEFT_MAP_SLOT, sizeof(*view->slots), &view->slots, &view->slots_count, err);
		if (r < 0)
			return r;
		view->have_slots = true;
	}
	r = weft_view_endpoints(view, &endpoints, &endpoints_count, err);
	if (r < 0)
		return r;
	/* a frontend read a moment before its slots were may point behind them: what is not there has no candidates */
	if (frontend->slot <= view->slots_count && frontend->count <= view->slots_count - frontend->slot)
		draws_count = 2 * (size_t)frontend->count;
	draws = calloc(draws_count + 1, sizeof(*draws));
	candidates = calloc(draws_count + 1, sizeof(*candidates));
	if (!draws || !candidates)
		return weft_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < draws_count / 2; i++) {
		const struct weft_slot *slot = &view->slots[frontend->slot + i];
		double here = 1.0;

		if (frontend->flags & WEFT_FRONTEND_F_WEIGHTED)
			here = ((double)slot->threshold + 1) / 4294967296.0;
		draws[2 * i] = (struct draw){ slot->endpoint, here / frontend->count };
		draws[2 * i + 1] = (struct draw){ slot->alias, (1 - here) / frontend->count };
	}
	qsort(draws, draws_count, sizeof(*draws), compare_draws);
	for (size_t i = 0; i < draws_count; i++) {
		uint32_t id = draws[i].endpoint, index = WEFT_ENDPOINT_INDEX(id);
		struct weft_view_candidate *last = count ? &candidates[count - 1] : NULL;

		if (draws[i].share <= 0)
			continue;
		if (last && last->endpoint.id == id) {
			last->share += draws[i].share;
			continue;
		}
		last = &candidates[count++];
		last->share = draws[i].share;
		if (index < endpoints_count && endpoints[index].id == id)
			last->endpoint = endpoints[index];
		last->endpoint.id = id;
		r = weft_view_live(view, id, &last->live, err);
		if (r < 0)
			return r;
	}
	qsort(candidates, count, sizeof(*candidates), compare_candidates);
	*ret_candidates = weft_take_ptr(candidates);
	*ret_count = count;
	return 0;
}

const char *weft_view_service(struct weft_view *view, uint32_t id, char *text)
{
	const struct weft_service_name *name = id ? weft_names_service(view->names, id) : NULL;

	if (!id)
		text[0] = '\0';
	else if (id == WEFT_ID_OTHER)
		snprintf(text, WEFT_LABEL, "other");
	else if (name)
		snprintf(text, WEFT_LABEL, "%s/%s:%u", name->namespace, name->name, name->port);
	else
		snprintf(text, WEFT_LABEL, "service %u", id);
	return text;
}

const char *weft_view_workload(struct weft_view *view, uint32_t id, char *text)
{
	const struct weft_workload_name *name = id ? weft_names_workload(view->names, id) : NULL;

	if (!id)
		text[0] = '\0';
	else if (id == WEFT_ID_OTHER)
		snprintf(text, WEFT_LABEL, "other");
	else if (name)
		snprintf(text, WEFT_LABEL, "%s/%s", name->namespace, name->name);
	else
		snprintf(text, WEFT_LABEL, "workload %u", id);
	return text;
}

static bool pair_is(const char *pair, const char *namespace, const char *name)
{
	size_t size = strlen(namespace);

	return strncmp(pair, namespace, size) == 0 && pair[size] == '/' && strcmp(pair + size + 1, name) == 0;
}

bool weft_view_service_is(struct weft_view *view, uint32_t id, const char *pair)
{
	const struct weft_service_name *name;

	if (!pair)
		return true;
	name = id ? weft_names_service(view->names, id) : NULL;
	return name && pair_is(pair, name->namespace, name->name);
}

bool weft_view_workload_is(struct weft_view *view, uint32_t id, const char *pair)
{
	const struct weft_workload_name *name;

	if (!pair)
		return true;
	name = id ? weft_names_workload(view->names, id) : NULL;
	return name && pair_is(pair, name->namespace, name->name);
}

/* Says that `pair` is not there, with the nearest of the others. */
static int not_there(const char *what, const char *pair, const char *namespace, const char *name, struct weft_err *err)
{
	if (name)
		return weft_err_set(err, ENOENT, "no %s `%s`, did you mean `%s/%s`?", what, pair, namespace, name);
	return weft_err_set(err, ENOENT, "no %s `%s`; `weft %s list` names all", what, pair, what);
}

static bool near(const char *pair, const char *namespace, const char *name)
{
	const char *slash = strchr(pair, '/');
	char space[256];

	snprintf(space, sizeof(space), "%.*s", (int)(slash - pair), pair);
	/* same name in another namespace, or a slip in one of both */
	if (strcmp(name, slash + 1) == 0)
		return true;
	return strcmp(namespace, space) == 0 && weft_word_nearest(slash + 1, &name, 1) == 0;
}

int weft_view_require_service(struct weft_view *view, const char *pair, struct weft_err *err)
{
	const struct weft_service_name *name, *nearest = NULL;
	uint32_t previous = 0;

	while ((name = weft_names_next_service(view->names, previous))) {
		if (pair_is(pair, name->namespace, name->name))
			return 0;
		if (!nearest && near(pair, name->namespace, name->name))
			nearest = name;
		previous = name->id;
	}
	return not_there("service", pair, nearest ? nearest->namespace : NULL, nearest ? nearest->name : NULL, err);
}

int weft_view_require_workload(struct weft_view *view, const char *pair, uint32_t *ret_id, struct weft_err *err)
{
	const struct weft_workload_name *name, *nearest = NULL;
	uint32_t previous = 0;

	while ((name = weft_names_next_workload(view->names, previous))) {
		if (pair_is(pair, name->namespace, name->name)) {
			*ret_id = name->id;
			return 0;
		}
		if (!nearest && near(pair, name->namespace, name->name))
			nearest = name;
		previous = name->id;
	}
	return not_there("workload", pair, nearest ? nearest->namespace : NULL, nearest ? nearest->name : NULL, err);
}

const char *weft_protocol_name(uint8_t protocol)
{
	return protocol == IPPROTO_TCP ? "tcp" : protocol == IPPROTO_UDP ? "udp" : "?";
}

static const char *entry(const char *const *names, size_t count, uint8_t value)
{
	return value < count && names[value] ? names[value] : "?";
}

const char *weft_frontend_type_name(uint8_t type)
{
	static const char *const name[WEFT_FRONTEND_TYPE_MAX_] = {
		[WEFT_FRONTEND_CLUSTER_IP] = "cluster-ip",	 [WEFT_FRONTEND_NODE_PORT] = "node-port",
		[WEFT_FRONTEND_EXTERNAL_IP] = "external-ip",	 [WEFT_FRONTEND_LOAD_BALANCER] = "load-balancer",
		[WEFT_FRONTEND_SERVICE_ENTRY] = "service-entry", [WEFT_FRONTEND_ADDRESS] = "address",
	};

	return entry(name, WEFT_ARRAY_SIZE(name), type);
}

const char *weft_algorithm_name(uint8_t algorithm)
{
	static const char *const name[WEFT_ALGORITHM_MAX_] = {
		[WEFT_ALGORITHM_LEAST_REQUEST] = "least-request",
		[WEFT_ALGORITHM_ROUND_ROBIN] = "round-robin",
		[WEFT_ALGORITHM_RANDOM] = "random",
	};

	return entry(name, WEFT_ARRAY_SIZE(name), algorithm);
}

const char *weft_endpoint_state_name(uint8_t state)
{
	static const char *const name[WEFT_ENDPOINT_STATE_MAX_] = {
		[WEFT_ENDPOINT_FREE] = "free",	     [WEFT_ENDPOINT_READY] = "ready",
		[WEFT_ENDPOINT_SERVING] = "serving", [WEFT_ENDPOINT_DRAINING] = "draining",
		[WEFT_ENDPOINT_GONE] = "gone",
	};

	return entry(name, WEFT_ARRAY_SIZE(name), state);
}

const char *weft_outcome_name(uint8_t outcome)
{
	static const char *const name[WEFT_OUTCOME_MAX_] = {
		[WEFT_OUTCOME_OPEN] = "open",		[WEFT_OUTCOME_CLOSED] = "closed",
		[WEFT_OUTCOME_RESET] = "reset",		[WEFT_OUTCOME_REFUSED] = "refused",
		[WEFT_OUTCOME_TIMED_OUT] = "timed-out", [WEFT_OUTCOME_ABANDONED] = "abandoned",
	};

	return entry(name, WEFT_ARRAY_SIZE(name), outcome);
}
