/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge in the kernel, weft_inbound on SYNs that BPF_PROG_TEST_RUN makes up, against an evaluator that knows nothing of bit
 * vectors, prefix tables or their order: it asks each clause in turn what it says of the connection. 100 000 random ones over
 * random policies, of every address form, with and without a source, attested or not; and bpf/lib/policy.h for an address that is not known.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kernel/build.h"
#include "kernel/kernel.h"
#include "lib/policy.h"
#include "weft/abi/counter.h"
#include "weft/abi/proxy.h"

#define SKIP 77
#define KERNEL_ENOTSUPP 524
#define DECISIONS 100000
#define SETS 48
#define SOURCES 6 /* identities 1..; 0: none */
#define LISTED 4

struct prefix {
	struct weft_addr addr;
	unsigned int bits; /* of the 128 */
};

/* One condition: of what is listed one must hold, of what is listed as `not` none may. */
struct clause {
	enum { DENY, ALLOW, DRY_DENY, DRY_ALLOW } action;
	uint32_t sources[LISTED], not_sources[LISTED];
	size_t source_count, not_source_count;
	struct prefix prefixes[LISTED], not_prefixes[LISTED];
	size_t prefix_count, not_prefix_count;
	uint16_t ports[LISTED], not_ports[LISTED];
	size_t port_count, not_port_count;
};

struct set {
	struct clause clause[WEFT_POLICY_MAX_CLAUSES];
	size_t count;
	bool allow, dry_allow;
};

struct peer {
	uint32_t source;
	struct weft_addr addr;
	uint16_t port;
};

static struct set sets[SETS + 1]; /* from 1 */
static uint64_t state = 0x2545f4914f6cdd1d;

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 32) % below);
}

/* ---- the evaluator ---- */

static bool in(const struct prefix *prefix, const struct weft_addr *addr)
{
	for (unsigned int bit = 0; bit < prefix->bits; bit++) {
		uint32_t mask = htonl(0x80000000u >> bit % 32);

		if ((prefix->addr.w[bit / 32] ^ addr->w[bit / 32]) & mask)
			return false;
	}
	return true;
}

static bool source_holds(const struct clause *clause, uint32_t source)
{
	bool listed = !clause->source_count;

	for (size_t i = 0; i < clause->source_count; i++)
		listed |= clause->sources[i] == source;
	for (size_t i = 0; i < clause->not_source_count; i++)
		listed &= clause->not_sources[i] != source;
	return listed;
}

static bool addr_holds(const struct clause *clause, const struct weft_addr *addr)
{
	bool listed = !clause->prefix_count;

	for (size_t i = 0; i < clause->prefix_count; i++)
		listed |= in(&clause->prefixes[i], addr);
	for (size_t i = 0; i < clause->not_prefix_count; i++)
		listed &= !in(&clause->not_prefixes[i], addr);
	return listed;
}

static bool port_holds(const struct clause *clause, uint16_t port)
{
	bool listed = !clause->port_count;

	for (size_t i = 0; i < clause->port_count; i++)
		listed |= clause->ports[i] == port;
	for (size_t i = 0; i < clause->not_port_count; i++)
		listed &= clause->not_ports[i] != port;
	return listed;
}

static uint32_t evaluate(const struct set *set, const struct peer *peer)
{
	bool said[4] = { false };
	uint32_t verdict = 0;

	for (size_t i = 0; i < set->count; i++)
		if (source_holds(&set->clause[i], peer->source) && addr_holds(&set->clause[i], &peer->addr) &&
		    port_holds(&set->clause[i], peer->port))
			said[set->clause[i].action] = true;
	if (said[DENY] || (set->allow && !said[ALLOW]))
		verdict |= WEFT_POLICY_DENIED;
	if (said[DRY_DENY] || (set->dry_allow && !said[DRY_ALLOW]))
		verdict |= WEFT_POLICY_DRY_DENIED;
	return verdict;
}

/* ---- random configuration: small enough a world that things meet ---- */

static struct weft_addr random_addr(void)
{
	struct weft_addr addr = { { 0 } };

	if (draw(2)) {
		addr.w[2] = htonl(0xffff);
		addr.w[3] = htonl(10u << 24 | draw(4) << 16 | draw(4) << 8 | draw(8));
	} else {
		addr.w[0] = htonl(0xfd000000u | draw(4));
		addr.w[3] = htonl(draw(16));
	}
	return addr;
}

static struct prefix random_prefix(void)
{
	static const unsigned int v4[] = { 0, 8, 16, 24, 30, 32 }, v6[] = { 0, 8, 32, 64, 126, 128 };
	struct prefix prefix = { .addr = random_addr() };

	prefix.bits = prefix.addr.w[0] ? v6[draw(6)] : 96 + v4[draw(6)];
	for (unsigned int bit = prefix.bits; bit < 128; bit++)
		prefix.addr.w[bit / 32] &= ~htonl(0x80000000u >> bit % 32);
	return prefix;
}

static size_t some(void)
{
	return draw(3) ? 0 : 1 + draw(LISTED);
}

static void random_clause(struct clause *clause, bool dense)
{
	*clause = (struct clause){ .action = draw(4) };
	clause->source_count = some();
	clause->not_source_count = some();
	clause->prefix_count = some();
	clause->not_prefix_count = some();
	clause->port_count = some();
	clause->not_port_count = some();
	if (!dense && !clause->source_count)
		clause->source_count = 1; /* else nearly every large set denies nearly everything */
	for (size_t i = 0; i < LISTED; i++) {
		clause->sources[i] = 1 + draw(SOURCES);
		clause->not_sources[i] = 1 + draw(SOURCES);
		clause->prefixes[i] = random_prefix();
		clause->not_prefixes[i] = random_prefix();
		clause->ports[i] = (uint16_t)(1000 + draw(8));
		clause->not_ports[i] = (uint16_t)(1000 + draw(8));
	}
	/* Both kinds of one condition seldom leave anything. */
	if (clause->prefix_count && draw(2))
		clause->not_prefix_count = 0;
}

static void random_sets(void)
{
	for (size_t id = 1; id <= SETS; id++) {
		struct set *set = &sets[id];

		set->count = id == SETS ? WEFT_POLICY_MAX_CLAUSES : draw(id % 4 ? 6 : 40);
		set->allow = draw(2);
		set->dry_allow = draw(2);
		for (size_t i = 0; i < set->count; i++)
			random_clause(&set->clause[i], set->count < 6);
	}
}

/* ---- the tables, as abi/maps.h describes them ---- */

static void set_bit(struct weft_clauses *clauses, size_t i)
{
	clauses->word[i / 64] |= UINT64_C(1) << i % 64;
}

static bool put(struct bpf_map *map, const void *key, const void *value)
{
	return bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY) == 0;
}

/* An address in `here` and in no smaller prefix of the set: it is in just those prefixes that hold all of `here`. */
static bool addr_holds_within(const struct clause *clause, const struct prefix *here)
{
	bool listed = !clause->prefix_count;

	for (size_t i = 0; i < clause->prefix_count; i++)
		listed |= clause->prefixes[i].bits <= here->bits && in(&clause->prefixes[i], &here->addr);
	for (size_t i = 0; i < clause->not_prefix_count; i++)
		listed &= !(clause->not_prefixes[i].bits <= here->bits && in(&clause->not_prefixes[i], &here->addr));
	return listed;
}

static bool write_prefix(struct weft_bpf *skel, uint32_t id, const struct prefix *prefix)
{
	struct weft_policy_cidr_key key = { .bits = 32 + prefix->bits, .policy = htonl(id), .addr = prefix->addr };
	struct weft_clauses clauses = { { 0 } };

	for (size_t i = 0; i < sets[id].count; i++)
		if (addr_holds_within(&sets[id].clause[i], prefix))
			set_bit(&clauses, i);
	return put(skel->maps.weft_policy_cidr, &key, &clauses);
}

static void make_policy(uint32_t id, struct weft_policy *ret_policy)
{
	const struct set *set = &sets[id];
	struct weft_policy policy = { .flags = (set->allow ? WEFT_POLICY_F_ALLOW : 0) | (set->dry_allow ? WEFT_POLICY_F_DRY_ALLOW : 0) };
	struct weft_clauses *by_action[] = { &policy.deny, &policy.allow, &policy.dry_deny, &policy.dry_allow };

	for (size_t i = 0; i < set->count; i++) {
		set_bit(by_action[set->clause[i].action], i);
		if (source_holds(&set->clause[i], 0))
			set_bit(&policy.no_source, i);
		if (!set->clause[i].prefix_count)
			set_bit(&policy.any_address, i), set_bit(&policy.every_address, i);
		if (!set->clause[i].port_count)
			set_bit(&policy.any_port, i);
	}
	*ret_policy = policy;
}

static bool write_set(struct weft_bpf *skel, uint32_t id)
{
	const struct set *set = &sets[id];
	struct weft_policy policy;
	bool good = true;

	make_policy(id, &policy);
	good &= put(skel->maps.weft_policy, &id, &policy);
	for (uint32_t source = 1; source <= SOURCES; source++) {
		struct weft_policy_source_key key = { id, source };
		struct weft_clauses clauses = { { 0 } };

		for (size_t i = 0; i < set->count; i++)
			if (source_holds(&set->clause[i], source))
				set_bit(&clauses, i);
		good &= put(skel->maps.weft_policy_source, &key, &clauses);
	}
	for (uint16_t port = 1000; port < 1008; port++) {
		struct weft_policy_port_key key = { .policy = id, .port = htons(port) };
		struct weft_clauses clauses = { { 0 } };

		for (size_t i = 0; i < set->count; i++)
			if (port_holds(&set->clause[i], port))
				set_bit(&clauses, i);
		good &= put(skel->maps.weft_policy_port, &key, &clauses);
	}
	for (size_t i = 0; i < set->count; i++)
		for (size_t j = 0; j < LISTED; j++) {
			if (j < set->clause[i].prefix_count)
				good &= write_prefix(skel, id, &set->clause[i].prefixes[j]);
			if (j < set->clause[i].not_prefix_count)
				good &= write_prefix(skel, id, &set->clause[i].not_prefixes[j]);
		}
	return good;
}

/* Workload `id` has set `id`; those from 1000 on are the sources' own, in namespaces of the same number. */
static bool write_world(struct weft_bpf *skel)
{
	struct weft_setting setting = { .magic = WEFT_ABI_MAGIC, .version = WEFT_ABI_VERSION, .flags = WEFT_SETTING_F_SECURE | WEFT_SETTING_F_POLICY };
	const uint32_t only = 0;
	bool good = put(skel->maps.weft_setting, &only, &setting);

	for (uint32_t id = 1; id <= SETS; id++) {
		struct weft_workload row = { .policy = id, .flags = WEFT_WORKLOAD_F_LOCAL | WEFT_WORKLOAD_F_TUNNEL };
		struct weft_addr four = { .w = { 0, 0, htonl(0xffff), htonl(192u << 24 | 2u << 8 | id) } };
		struct weft_addr six = { .w = { htonl(0x20010db8), 0, 0, htonl(id) } };

		good &= write_set(skel, id) && put(skel->maps.weft_workload, &id, &row) && put(skel->maps.weft_workload_at, &four, &id) &&
			put(skel->maps.weft_workload_at, &six, &id);
	}
	for (uint32_t source = 1; source <= SOURCES; source++) {
		struct weft_workload row = { .source = source };
		struct weft_capture capture = { .workload = 1000 + source };
		uint32_t id = 1000 + source;
		uint64_t netns = id;

		good &= put(skel->maps.weft_workload, &id, &row) && put(skel->maps.weft_capture, &netns, &capture);
	}
	return good;
}

/* ---- one SYN ---- */

static int ask(struct weft_bpf *skel, uint32_t to, const struct peer *peer, uint16_t from_port, bool *ret_passed)
{
	struct bpf_sk_lookup context = {
		.protocol = IPPROTO_TCP,
		.local_port = peer->port,
		.remote_port = htons(from_port),
	};
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &context, .ctx_size_in = sizeof(context));
	bool four = !peer->addr.w[0] && peer->addr.w[2] == htonl(0xffff);

	if (four) {
		context.family = AF_INET;
		context.remote_ip4 = peer->addr.w[3];
		context.local_ip4 = htonl(192u << 24 | 2u << 8 | to);
	} else {
		const uint32_t local[4] = { htonl(0x20010db8), 0, 0, htonl(to) };

		context.family = AF_INET6;
		memcpy(context.remote_ip6, peer->addr.w, sizeof(local));
		memcpy(context.local_ip6, local, sizeof(local));
	}
	if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.weft_inbound), &options) < 0)
		return -errno;
	*ret_passed = options.retval == SK_PASS;
	return 0;
}

static struct weft_attest_key attest_key(uint32_t to, const struct peer *peer, uint16_t from_port)
{
	struct weft_attest_key key = { .client = peer->addr, .client_port = htons(from_port), .server_port = htons(peer->port) };

	if (!peer->addr.w[0] && peer->addr.w[2] == htonl(0xffff))
		key.server = (struct weft_addr){ .w = { 0, 0, htonl(0xffff), htonl(192u << 24 | 2u << 8 | to) } };
	else
		key.server = (struct weft_addr){ .w = { htonl(0x20010db8), 0, 0, htonl(to) } };
	return key;
}

static uint64_t counted(struct weft_bpf *skel, uint32_t counter)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *each = calloc(cpus > 0 ? (size_t)cpus : 1, sizeof(*each)), sum = 0;

	if (each && bpf_map_lookup_elem(bpf_map__fd(skel->maps.weft_counter), &counter, each) == 0)
		for (int i = 0; i < cpus; i++)
			sum += each[i];
	free(each);
	return sum;
}

static int random_decisions(struct weft_bpf *skel)
{
	uint64_t denied = 0, dry = 0, passed_count = 0, by_word[4] = { 0 };
	int attest = bpf_map__fd(skel->maps.weft_attest);

	for (unsigned int i = 0; i < DECISIONS; i++) {
		struct peer peer = { .source = draw(SOURCES + 1), .addr = random_addr(), .port = (uint16_t)(1000 + draw(10)) };
		uint32_t to = 1 + draw(SETS), verdict = evaluate(&sets[to], &peer);
		uint16_t from_port = (uint16_t)(2000 + draw(60000));
		struct weft_attest_key key = attest_key(to, &peer, from_port);
		struct weft_attested attested = { .netns = 1000 + peer.source, .workload = 1000 + peer.source };
		bool passed = false;
		int r;

		if (peer.source && bpf_map_update_elem(attest, &key, &attested, BPF_NOEXIST) < 0)
			return fprintf(stderr, "weft_attest: %m\n"), 1;
		r = ask(skel, to, &peer, from_port, &passed);
		if (peer.source)
			bpf_map_delete_elem(attest, &key);
		if (r < 0)
			return fprintf(stderr, "test run: %s\n", strerror(-r)), 1;
		if (passed != !(verdict & WEFT_POLICY_DENIED)) {
			fprintf(stderr, "decision %u: the kernel %s, the evaluator does not; set %u of %zu clauses, source %u, port %u\n", i,
				passed ? "allows" : "denies", to, sets[to].count, peer.source, peer.port);
			return 1;
		}
		denied += !passed;
		passed_count += passed;
		dry += verdict == WEFT_POLICY_DRY_DENIED;
		by_word[verdict]++;
	}
	printf("%u decisions: %llu passed, %llu denied, %llu denied by dry-run only\n", DECISIONS, (unsigned long long)passed_count,
	       (unsigned long long)denied, (unsigned long long)dry);
	/* A sample in which one outcome is rare says little. */
	for (size_t i = 0; i < 4; i++)
		if (by_word[i] < DECISIONS / 50)
			return fprintf(stderr, "outcome %zu was seen %llu times only\n", i, (unsigned long long)by_word[i]), 1;
	if (counted(skel, WEFT_COUNTER_POLICY_DENIED) != denied || counted(skel, WEFT_COUNTER_DRY_RUN_DENIED) != dry)
		return fprintf(stderr, "counted are %llu denied and %llu by dry-run\n",
			       (unsigned long long)counted(skel, WEFT_COUNTER_POLICY_DENIED),
			       (unsigned long long)counted(skel, WEFT_COUNTER_DRY_RUN_DENIED)), 1;
	return 0;
}

/* While the address is not known: denied is what is denied from everywhere that the world has, and only that may be. */
static int unknown_addresses(void)
{
	unsigned int said = 0;

	for (uint32_t id = 1; id <= SETS; id++) {
		struct weft_policy policy;

		make_policy(id, &policy);
		for (uint16_t port = 1000; port < 1010; port++) {
			struct weft_clauses port_clauses = { { 0 } };
			struct weft_policy_seen seen = { &policy.no_source, NULL, &port_clauses };

			for (size_t i = 0; i < sets[id].count; i++)
				if (port_holds(&sets[id].clause[i], port))
					set_bit(&port_clauses, i);
			if (!(weft_policy_decide(&policy, &seen) & WEFT_POLICY_DENIED))
				continue;
			said++;
			for (unsigned int i = 0; i < 300; i++) {
				struct peer peer = { .addr = random_addr(), .port = port };
				bool excepted = false;

				/* One that only leaves some addresses out counts as one that names them all. */
				for (size_t c = 0; c < sets[id].count; c++)
					excepted |= sets[id].clause[c].action == DENY && sets[id].clause[c].not_prefix_count;
				if (!excepted && !(evaluate(&sets[id], &peer) & WEFT_POLICY_DENIED))
					return fprintf(stderr, "set %u, port %u: denied for every address, and one is allowed\n", id, port), 1;
			}
		}
	}
	return said ? 0 : (fprintf(stderr, "no set denies whatever the address\n"), 1);
}

/* A set that denies everything, in the place of `id`. */
static bool deny_all(struct weft_bpf *skel, uint32_t id)
{
	struct weft_policy policy = { .flags = WEFT_POLICY_F_ALLOW };

	return put(skel->maps.weft_policy, &id, &policy);
}

#define EXPECT(WANTED, WHAT)                                                                                           \
	do {                                                                                                           \
		if (ask(skel, 1, &peer, 40000, &passed) < 0 || passed != (WANTED)) {                                   \
			fprintf(stderr, "%s: %s\n", WHAT, passed ? "passed" : "refused");                              \
			return 1;                                                                                      \
		}                                                                                                      \
	} while (0)

/* What goes before the policy, and who is believed to have an identity. */
static int rules(struct weft_bpf *skel)
{
	struct peer peer = { .addr = { .w = { 0, 0, htonl(0xffff), htonl(10u << 24 | 7) } }, .port = 1000 };
	const struct weft_addr own = { .w = { 0, 0, htonl(0xffff), htonl(192u << 24 | 2u << 8 | 1) } }, elsewhere = peer.addr;
	struct weft_attest_key key = attest_key(1, &peer, 40000);
	struct weft_attested agent = { .netns = 1001, .workload = 1001, .flags = WEFT_ATTESTED_F_AGENT }, attested = { .netns = 1001, .workload = 1001 };
	struct weft_captured_key captured = { .addr = own, .port = htons(40000) };
	struct weft_policy_source_key source = { 1, 1 };
	struct weft_policy policy;
	struct weft_original original = { .workload = 1 };
	struct weft_clauses all;
	int attest = bpf_map__fd(skel->maps.weft_attest);
	uint64_t netns = 1001;
	uint32_t one = 1;
	bool passed = false;

	if (!deny_all(skel, 1))
		return 1;
	EXPECT(false, "a policy that denies all");
	put(skel->maps.weft_attest, &key, &agent);
	EXPECT(true, "the agent's own dial");
	peer.port = 1001;
	EXPECT(false, "the agent's dial to another port");
	peer.port = 1000;
	/* The pod whose namespace vouched is attached no more: its address may be another's by now. */
	bpf_map_delete_elem(bpf_map__fd(skel->maps.weft_capture), &netns);
	EXPECT(false, "vouched for by a namespace that is gone");
	put(skel->maps.weft_capture, &netns, &(struct weft_capture){ .workload = 1002 });
	EXPECT(false, "vouched for by a namespace that is another workload's");
	put(skel->maps.weft_capture, &netns, &(struct weft_capture){ .workload = 1001 });
	EXPECT(true, "vouched for again");
	bpf_map_delete_elem(attest, &key);

	/* ALLOW for source 1 alone. */
	memset(&all, 0xff, sizeof(all));
	policy = (struct weft_policy){ .flags = WEFT_POLICY_F_ALLOW, .allow = all, .any_address = all, .any_port = all };
	put(skel->maps.weft_policy, &one, &policy);
	put(skel->maps.weft_policy_source, &source, &all);
	EXPECT(false, "no identity, where one is needed");
	put(skel->maps.weft_attest, &key, &attested);
	EXPECT(true, "attested");
	bpf_map_delete_elem(bpf_map__fd(skel->maps.weft_policy_source), &source);
	EXPECT(false, "a source that the tables do not have yet");
	if (counted(skel, WEFT_COUNTER_POLICY_UNKNOWN) != 2) /* once before: judge() */
		return fprintf(stderr, "policy_unknown was not counted\n"), 1;
	bpf_map_delete_elem(bpf_map__fd(skel->maps.weft_policy), &one);
	EXPECT(false, "a policy that the tables do not have yet");
	deny_all(skel, 1);
	bpf_map_delete_elem(attest, &key);

	peer.port = WEFT_PORT_HBONE;
	EXPECT(true, "to the agent's HBONE port");
	peer.port = 1000;
	peer.addr = own;
	EXPECT(true, "the pod to itself");
	peer.port = WEFT_PORT_OUTBOUND;
	EXPECT(false, "to the agent's outbound port, not captured");
	put(skel->maps.weft_captured, &captured, &original);
	EXPECT(true, "captured");
	peer.addr = elsewhere;
	captured.addr = elsewhere;
	put(skel->maps.weft_captured, &captured, &original);
	EXPECT(false, "captured, but from another address than the pod's own");
	if (counted(skel, WEFT_COUNTER_AGENT_PORT) != 2)
		return fprintf(stderr, "agent_port was counted %llu times\n", (unsigned long long)counted(skel, WEFT_COUNTER_AGENT_PORT)), 1;
	return 0;
}

static int judge(struct weft_bpf *skel)
{
	struct peer peer = { .addr = random_addr(), .port = 1000 };
	bool passed;
	int r;

	random_sets();
	if (!write_world(skel))
		return fprintf(stderr, "the tables cannot be written: %m\n"), 1;
	r = ask(skel, SETS + 1, &peer, 40000, &passed);
	if (r == -KERNEL_ENOTSUPP || r == -EINVAL) {
		printf("skipped: this kernel runs no sk_lookup program by itself\n");
		return SKIP;
	}
	/* Whose policies hold there nobody can say. */
	if (r < 0 || passed)
		return fprintf(stderr, "to an address that no workload has: %s\n", r < 0 ? strerror(-r) : "passed"), 1;
	if (unknown_addresses())
		return 1;
	return random_decisions(skel) || rules(skel);
}

int main(void)
{
	uint64_t features = weft_feature_probe(0);
	struct bpf_program *program;
	struct weft_err err = { "" };
	struct weft_bpf *skel;
	int r;

	if (weft_feature_check_floor(features, &err) < 0 || !(features >> WEFT_FEATURE_SK_LOOKUP & 1)) {
		printf("skipped: %s\n", err.text[0] ? err.text : "this kernel lacks sk_lookup");
		return SKIP;
	}
	r = weft_build_open(features, &skel);
	if (r < 0)
		return fprintf(stderr, "the programs cannot be opened: %s\n", strerror(-r)), 1;
	bpf_object__for_each_program(program, skel->obj)
		bpf_program__set_autoload(program, program == skel->progs.weft_inbound);
	bpf_map__set_max_entries(skel->maps.weft_policy_source, 65536);
	bpf_map__set_max_entries(skel->maps.weft_policy_port, 65536);
	bpf_map__set_max_entries(skel->maps.weft_policy_cidr, 65536);
	r = weft_bpf__load(skel);
	r = r < 0 ? (fprintf(stderr, "the programs cannot be loaded: %s\n", strerror(-r)), 1) : judge(skel);
	weft_bpf__destroy(skel);
	return r;
}
