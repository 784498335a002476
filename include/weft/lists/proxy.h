/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What a proxy counts: the CLI's name, the metric's label and docs come from here. Append only, at most 32.
 *
 * WEFT_PROXY_COUNT(NAME, "name", "sentence")
 */
WEFT_PROXY_COUNT(OUTBOUND, "outbound", "connections of applications that were taken into a tunnel")
WEFT_PROXY_COUNT(INBOUND, "inbound", "streams that reached their application")
WEFT_PROXY_COUNT(HANDSHAKES, "handshakes", "TLS handshakes that succeeded, at either end")
WEFT_PROXY_COUNT(HANDSHAKE_FAILED, "handshake_failed", "TLS handshakes that failed for another reason than the peer's identity")
WEFT_PROXY_COUNT(PEER_REFUSED, "peer_refused", "peers whose certificate was not believed, or was another's")
WEFT_PROXY_COUNT(POLICY_DENIED, "policy_denied", "streams that a policy denied")
WEFT_PROXY_COUNT(POLICY_CUT, "policy_cut", "open streams that a change of policy, trust or identity ended")
WEFT_PROXY_COUNT(BAD_REQUEST, "bad_request", "CONNECT requests that were malformed or for another pod")
WEFT_PROXY_COUNT(UPSTREAM_FAILED, "upstream_failed", "applications or peers that could not be reached")
WEFT_PROXY_COUNT(PEER_DENIED, "peer_denied", "tunnels that the peer's agent refused")
WEFT_PROXY_COUNT(NO_IDENTITY, "no_identity", "connections that failed because this node had no certificate for their pod")
WEFT_PROXY_COUNT(ABUSE, "abuse", "connections that were closed because the peer flooded or stalled")
WEFT_PROXY_COUNT(LOOP, "loop", "connections to a port of the agent's own")
WEFT_PROXY_COUNT(PEER_UNKNOWN, "peer_unknown", "connections to an address that the mesh has no identity for")
WEFT_PROXY_COUNT(NO_SOCKET, "no_socket", "streams that ended because main had no socket for them")
WEFT_PROXY_COUNT(DRY_RUN_DENIED, "dry_run_denied", "streams that a policy in dry-run would have denied")
WEFT_PROXY_COUNT(DETACHED, "detached", "open streams that ended because their pod was detached")
WEFT_PROXY_COUNT(FAIR_SHARE, "fair_share", "connections and streams that were refused because their source had its fair share of a proxy, or of a pod, that was nearly full")
