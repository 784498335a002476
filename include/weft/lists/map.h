/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Every map that is pinned and has plain keys and values.
 *
 * WEFT_MAP(NAME, "name", key type, value type, CONFIG | STATE, "sentence")
 * CONFIG: written by `control` through `main`. STATE: written by programs.
 * weft_counter is per CPU: what is read is the sum.
 */
WEFT_MAP(SETTING, "weft_setting", __u32, struct weft_setting, CONFIG, "node-wide switches")
WEFT_MAP(FRONTEND, "weft_frontend", struct weft_frontend_key, struct weft_frontend, CONFIG, "service addresses")
WEFT_MAP(SLOT, "weft_slot", __u32, struct weft_slot, CONFIG, "ranges of weighted choices")
WEFT_MAP(ENDPOINT, "weft_endpoint", __u32, struct weft_endpoint, CONFIG, "endpoints by index")
WEFT_MAP(ENDPOINT_AT, "weft_endpoint_at", struct weft_frontend_key, struct weft_endpoint_at, CONFIG, "endpoints of this node by address")
WEFT_MAP(WORKLOAD_AT, "weft_workload_at", struct weft_addr, __u32, CONFIG, "workloads by address")
WEFT_MAP(POD, "weft_pod", __u64, struct weft_pod, CONFIG, "workloads by network namespace")
WEFT_MAP(OPTOUT_CIDR, "weft_optout_cidr", struct weft_cidr, __u32, CONFIG, "addresses left alone")
WEFT_MAP(OPTOUT_PORT, "weft_optout_port", struct weft_port, __u32, CONFIG, "ports left alone")
WEFT_MAP(LIVE, "weft_live", __u32, struct weft_live, STATE, "connections by endpoint index")
WEFT_MAP(TURN, "weft_turn", __u32, __u64, STATE, "ROUND_ROBIN's counters by service")
WEFT_MAP(AFFINITY, "weft_affinity", struct weft_affinity_key, struct weft_affinity, STATE, "ClientIP affinities")
WEFT_MAP(AGGREGATE, "weft_aggregate", struct weft_aggregate_key, struct weft_aggregate, STATE, "connections, bytes and outcomes")
WEFT_MAP(HISTOGRAM, "weft_histogram", struct weft_histogram_key, struct weft_histogram, STATE, "latencies by service")
WEFT_MAP(COUNTER, "weft_counter", __u32, __u64, STATE, "refusals, passes and losses by reason")
WEFT_MAP(WORKLOAD, "weft_workload", __u32, struct weft_workload, CONFIG, "what connecting to a workload needs")
WEFT_MAP(POLICY, "weft_policy", __u32, struct weft_policy, CONFIG, "policy sets")
WEFT_MAP(POLICY_SOURCE, "weft_policy_source", struct weft_policy_source_key, struct weft_clauses, CONFIG, "clauses by source of this node")
WEFT_MAP(POLICY_CIDR, "weft_policy_cidr", struct weft_policy_cidr_key, struct weft_clauses, CONFIG, "clauses by client address")
WEFT_MAP(POLICY_PORT, "weft_policy_port", struct weft_policy_port_key, struct weft_clauses, CONFIG, "clauses by destination port")
WEFT_MAP(CAPTURE, "weft_capture", __u64, struct weft_capture, CONFIG, "listeners of the agent in attached pods")
WEFT_MAP(CAPTURED, "weft_captured", struct weft_captured_key, struct weft_original, STATE, "where captured connections on their way want to go")
WEFT_MAP(ATTEST, "weft_attest", struct weft_attest_key, struct weft_attested, STATE, "connections on their way between pods of this node")
