/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every metric family of /metrics, once: its lines of # HELP and # TYPE, the
 * names of its labels and its row in docs/METRICS.md come from this list.
 *
 * WEFT_METRIC(NAME, "name", COUNTER | GAUGE | HISTOGRAM, "unit", "help sentence", "label,label,...")
 */
#define WEFT_METRIC_SERVICE_ "destination_service,destination_service_namespace,destination_service_name"
#define WEFT_METRIC_TRAFFIC_                                                                                        \
	"reporter,source_workload,source_canonical_service,source_canonical_revision,source_workload_namespace,"    \
	"source_principal,source_app,source_version,source_cluster," WEFT_METRIC_SERVICE_ ",destination_workload,"  \
	"destination_canonical_service,destination_canonical_revision,destination_workload_namespace,"              \
	"destination_principal,destination_app,destination_version,destination_cluster,request_protocol,"           \
	"response_flags,connection_security_policy"
#define WEFT_METRIC_PAIR_                                                                                           \
	"reporter,source_workload,source_workload_namespace," WEFT_METRIC_SERVICE_                                  \
	",destination_workload,destination_workload_namespace"

WEFT_METRIC(TCP_OPENED, "istio_tcp_connections_opened_total", COUNTER, "connections", "TCP connections whose handshake was completed.", WEFT_METRIC_TRAFFIC_)
WEFT_METRIC(TCP_CLOSED, "istio_tcp_connections_closed_total", COUNTER, "connections", "TCP connections that were open and ended, in whatever way.", WEFT_METRIC_TRAFFIC_)
WEFT_METRIC(TCP_FAILED, "istio_tcp_connections_failed_total", COUNTER, "connections", "TCP connections that never opened.", WEFT_METRIC_TRAFFIC_)
WEFT_METRIC(TCP_SENT, "istio_tcp_sent_bytes_total", COUNTER, "bytes", "Payload that destinations sent to sources (responses), whoever reports it.", WEFT_METRIC_TRAFFIC_)
WEFT_METRIC(TCP_RECEIVED, "istio_tcp_received_bytes_total", COUNTER, "bytes", "Payload that destinations received from sources (requests), whoever reports it.", WEFT_METRIC_TRAFFIC_)

WEFT_METRIC(CONNECTION_FAILURES, "weft_connection_failures_total", COUNTER, "connections", "TCP connections that ended badly: refused, timed_out and abandoned never opened, reset did.", WEFT_METRIC_PAIR_ ",outcome")
WEFT_METRIC(TCP_RETRANSMITS, "weft_tcp_retransmits_total", COUNTER, "segments", "TCP segments that the reporter sent again.", WEFT_METRIC_PAIR_)
WEFT_METRIC(UDP_ASSOCIATIONS, "weft_udp_associations_total", COUNTER, "associations", "Pairs of a UDP socket and the endpoint that it was given for a service.", WEFT_METRIC_PAIR_)
WEFT_METRIC(CONNECT_SECONDS, "weft_connect_seconds", HISTOGRAM, "seconds", "Time from connect() to the completed handshake.", "reporter," WEFT_METRIC_SERVICE_)
WEFT_METRIC(CONNECTION_DURATION_SECONDS, "weft_connection_duration_seconds", HISTOGRAM, "seconds", "Time from the completed handshake to the end of the connection.", "reporter," WEFT_METRIC_SERVICE_)
WEFT_METRIC(RTT_SECONDS, "weft_rtt_seconds", HISTOGRAM, "seconds", "Smoothed round trip time of a connection when it ended.", "reporter," WEFT_METRIC_SERVICE_)
WEFT_METRIC(LIVE_CONNECTIONS, "weft_live_connections", GAUGE, "connections", "Connections that sockets of this node hold to endpoints of the service now.", WEFT_METRIC_SERVICE_)

WEFT_METRIC(REFUSED, "weft_refused_total", COUNTER, "calls", "Calls of connect() or sendmsg(), and SYNs to attached pods, that weft refused.", "reason")
WEFT_METRIC(PASSED, "weft_passed_total", COUNTER, "calls", "Calls of connect() or sendmsg() to an address of the mesh, and SYNs to attached pods, that weft left alone on purpose.", "reason")
WEFT_METRIC(LOST, "weft_lost_total", COUNTER, "records", "What could not be recorded, or not be handed to a watcher.", "what")

WEFT_METRIC(MAP_ENTRIES, "weft_map_entries", GAUGE, "entries", "Entries of a BPF map that are in use.", "map")
WEFT_METRIC(MAP_CAPACITY, "weft_map_capacity", GAUGE, "entries", "Entries that a BPF map has room for.", "map")
WEFT_METRIC(CONFIG_RESOURCES, "weft_config_resources", GAUGE, "resources", "Resources in force.", "")
WEFT_METRIC(CONFIG_REFUSED, "weft_config_refused", GAUGE, "resources", "Documents and resources of the configuration that are refused now; their last good versions are in force.", "")
WEFT_METRIC(CONFIG_NOTICES, "weft_config_notices", GAUGE, "notices", "Fields of the configuration that are known and not honoured.", "")
WEFT_METRIC(CONFIG_APPLIES, "weft_config_applies_total", COUNTER, "changes", "Changes of the configuration that reached the kernel.", "")
WEFT_METRIC(CONFIG_APPLY_FAILURES, "weft_config_apply_failures_total", COUNTER, "changes", "Changes of the configuration that could not be written to the kernel.", "")
WEFT_METRIC(CONFIG_LAST_APPLY_SECONDS, "weft_config_last_apply_seconds", GAUGE, "seconds", "How long the last change took from parsed resources to the last map write.", "")
WEFT_METRIC(CONFIG_LAST_APPLY_TIMESTAMP, "weft_config_last_apply_timestamp_seconds", GAUGE, "seconds", "When the last change reached the kernel, in seconds since 1970; 0 if none did since the start.", "")
WEFT_METRIC(COUNTERS_START_TIMESTAMP, "weft_counters_start_timestamp_seconds", GAUGE, "seconds", "When the counters of connections began at zero, in seconds since 1970: they outlive the agent, but not a reboot or weft uninstall.", "")
WEFT_METRIC(WATCHERS, "weft_watchers", GAUGE, "clients", "Clients that watch connections or refusals now.", "")
WEFT_METRIC(ROLE_RESTARTS, "weft_agent_role_restarts_total", COUNTER, "restarts", "Times that a role of the agent was started again since the agent's own start.", "role")
WEFT_METRIC(FEATURE, "weft_feature_present", GAUGE, "", "1 if this kernel has the feature and it is not forced away, else 0.", "feature")
WEFT_METRIC(PROXY, "weft_proxy_total", COUNTER, "connections", "What became of connections in the secure lane, counted by the proxies that run now.", "event")
WEFT_METRIC(IDENTITY_EXPIRY, "weft_identity_expiry_seconds", GAUGE, "seconds", "Until the certificate of a local identity ends; 0 once it has.", "identity")
WEFT_METRIC(BUILD_INFO, "weft_build_info", GAUGE, "", "Always 1; the labels say what runs where.", "version,node")

#undef WEFT_METRIC_SERVICE_
#undef WEFT_METRIC_TRAFFIC_
#undef WEFT_METRIC_PAIR_
