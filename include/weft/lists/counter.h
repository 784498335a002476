/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Every reason for which a program refuses or gives up on something, and every
 * loss, once: the enum, the map index, the CLI's name, the metric's label and
 * the documentation come from this list. Append only: the index is pinned.
 *
 * WEFT_COUNTER(NAME, "name", kind, "sentence")
 * kind: REFUSED (a connect, a SYN or a datagram failed by our decision), PASSED (left
 * alone although it was ours to decide), LOST (something was not recorded).
 */
WEFT_COUNTER(NO_ENDPOINT, "no_endpoint", REFUSED, "the service has no endpoint that may be used")
WEFT_COUNTER(NO_PORT, "no_port", REFUSED, "the address belongs to a service that does not have this port")
WEFT_COUNTER(STALE_ENDPOINT, "stale_endpoint", REFUSED, "the chosen endpoint went away between choice and use, twice")
WEFT_COUNTER(OPTED_OUT_POD, "opted_out_pod", PASSED, "the pod is opted out of the mesh")
WEFT_COUNTER(OPTED_OUT_TARGET, "opted_out_target", PASSED, "the address or port is opted out of the mesh")
WEFT_COUNTER(BYPASSED, "bypassed", PASSED, "the node is in bypass")
WEFT_COUNTER(SOCK_STORAGE_FULL, "sock_storage_full", LOST, "no socket storage: the connection is translated but neither counted nor shown")
WEFT_COUNTER(UDP_ENTRY_REPLACED, "udp_entry_replaced", LOST, "an unconnected UDP socket talks to more services than it has entries; the oldest was replaced")
WEFT_COUNTER(AGGREGATE_FULL, "aggregate_full", LOST, "weft_aggregate is full: counted in the row `other`")
WEFT_COUNTER(HISTOGRAM_FULL, "histogram_full", LOST, "weft_histogram is full: counted in the row `other`")
WEFT_COUNTER(AFFINITY_LOST, "affinity_lost", LOST, "a ClientIP affinity could not be stored")
WEFT_COUNTER(EVENT_LOST, "event_lost", LOST, "the ring buffer was full: a watcher misses a record")
WEFT_COUNTER(POLICY_DENIED, "policy_denied", REFUSED, "no policy of the destination allows this source, or one denies it")
WEFT_COUNTER(POLICY_UNKNOWN, "policy_unknown", REFUSED, "the destination has a policy that is not in the kernel yet, or not for this source")
WEFT_COUNTER(IDENTITY_REQUIRED, "identity_required", REFUSED, "the destination takes authenticated peers only, and this source is no attached workload")
WEFT_COUNTER(AGENT_PORT, "agent_port", REFUSED, "the port belongs to the agent: a connection to it would call the mesh from within")
WEFT_COUNTER(CAPTURED_FULL, "captured_full", REFUSED, "weft_captured is full: the agent would not learn where to go")
WEFT_COUNTER(ATTEST_FULL, "attest_full", LOST, "weft_attest is full: the connection is judged as one without identity")
WEFT_COUNTER(DRY_RUN_DENIED, "dry_run_denied", PASSED, "a policy in dry-run would have denied it")
WEFT_COUNTER(NO_LISTENER, "no_listener", REFUSED, "the agent was to connect to a port of its pod for a peer, and nobody listens there")
