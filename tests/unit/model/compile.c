/* SPDX-License-Identifier: Apache-2.0 */
/* Resources on one side, what is desired on the other. */
#include "lib.h"

#define SERVICE(NAME, SPEC) "---\napiVersion: v1\nkind: Service\nmetadata: {name: " NAME "}\nspec: {" SPEC "}\n"
#define SLICE(NAME, SERVICE, ENDPOINTS)                                                                  \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                                    \
	"metadata: {name: " NAME ", labels: {kubernetes.io/service-name: " SERVICE "}}\naddressType: IPv4\n" \
	"ports: [{port: 8080}]\nendpoints: [" ENDPOINTS "]\n"
#define NODE(NAME, ZONE, ADDR)                                                                                   \
	"---\napiVersion: v1\nkind: Node\nmetadata: {name: " NAME ", labels: {topology.kubernetes.io/zone: " ZONE \
	"}}\nstatus: {addresses: [{type: InternalIP, address: " ADDR "}]}\n"
#define POD(NAME, SPEC, STATUS)                                                                  \
	"---\napiVersion: v1\nkind: Pod\nmetadata: {name: " NAME ", labels: {app: web}}\n"      \
	"spec: {" SPEC "}\nstatus: {phase: Running, " STATUS "}\n"
#define SLICE6(NAME, SERVICE, ENDPOINTS)                                                                 \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                                    \
	"metadata: {name: " NAME ", labels: {kubernetes.io/service-name: " SERVICE "}}\naddressType: IPv6\n" \
	"ports: [{port: 8080}]\nendpoints: [" ENDPOINTS "]\n"
#define ENTRY(NAME, SPEC)                                                                                  \
	"---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: " NAME "}\n"    \
	"spec: {labels: {app: web}, " SPEC "}\n"
#define EXTERNAL(NAME, CREATED, SPEC)                                                                       \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                                 \
	"metadata: {name: " NAME ", creationTimestamp: \"" CREATED "\"}\n"                                 \
	"spec: {hosts: [x.example], location: MESH_INTERNAL, resolution: STATIC, " SPEC "}\n"
#define RULE(NAME, HOST, SIMPLE)                                                                             \
	"---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " NAME "}\n"      \
	"spec: {host: \"" HOST "\", trafficPolicy: {loadBalancer: {simple: " SIMPLE "}}}\n"

static const struct {
	const char *name, *yaml, *want;
	const char *problem; /* part of the only problem; NULL: none */
} table[] = {
	{ "ready, not ready, terminating",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  SLICE("a", "web",
		"{addresses: [10.1.0.1]}, {addresses: [10.1.0.2], conditions: {ready: false}}, "
		"{addresses: [10.1.0.3], conditions: {ready: false, serving: true, terminating: true}}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "  endpoint 10.1.0.2:8080 draining weight 1 unused\n"
	  "  endpoint 10.1.0.3:8080 serving weight 1 unused\n"
	  "address 10.96.0.1 refuse\n" },
	{ "terminating ones when nothing is ready",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  SLICE("a", "web",
		"{addresses: [10.1.0.2], conditions: {ready: false}}, "
		"{addresses: [10.1.0.3], conditions: {ready: false, serving: true, terminating: true}}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.2:8080 draining weight 1 unused\n"
	  "  endpoint 10.1.0.3:8080 serving weight 1\n"
	  "address 10.96.0.1 refuse\n" },
	{ "an endpoint in two slices is ready if one says so",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1], conditions: {ready: false}}")
	  SLICE("b", "web", "{addresses: [10.1.0.1]}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\n" },
	{ "internalTrafficPolicy Local without a local endpoint refuses",
	  SERVICE("web", "clusterIP: 10.96.0.1, internalTrafficPolicy: Local, externalIPs: [192.0.2.9], ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1], nodeName: there}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request local endpoints 0\n"
	  "  frontend 192.0.2.9:80 external-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\n" },
	{ "PreferClose takes this zone",
	  NODE("here", "z1", "192.0.2.1")
	  SERVICE("web", "clusterIP: 10.96.0.1, trafficDistribution: PreferClose, ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1], zone: z1}, {addresses: [10.1.0.2], zone: z2}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1 unused\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "PreferClose falls back to all",
	  NODE("here", "z3", "192.0.2.1")
	  SERVICE("web", "clusterIP: 10.96.0.1, trafficDistribution: PreferClose, ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1], zone: z1}, {addresses: [10.1.0.2], zone: z2}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 2\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "pods without a slice, each with its own named port",
	  SERVICE("web", "clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}]")
	  POD("p1", "nodeName: here, containers: [{name: c, ports: [{name: http, containerPort: 81}]}]", "podIP: 10.1.0.1")
	  POD("p2", "nodeName: there, containers: [{name: c, ports: [{name: http, containerPort: 82}]}]", "podIP: 10.1.0.2"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 2\n"
	  "  endpoint 10.1.0.1:81 ready weight 1 here Pod default/p1\n"
	  "  endpoint 10.1.0.2:82 ready weight 1 Pod default/p2\n"
	  "address 10.96.0.1 refuse\n"
	  "workload 10.1.0.1 Pod default/p1\nworkload 10.1.0.2 Pod default/p2\n" },
	{ "headless has no frontend and refuses nothing",
	  SERVICE("web", "clusterIP: None, ports: [{port: 80}]") SLICE("a", "web", "{addresses: [10.1.0.1]}"),
	  "service default/web port 80/TCP\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1 unused\n" },
	{ "NodePort Local works through this node only; a load balancer of mode Proxy has no frontend",
	  "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: LoadBalancer, clusterIP: 10.96.0.1, "
	  "externalTrafficPolicy: Local, sessionAffinity: ClientIP, ports: [{port: 80, nodePort: 30080}]}\n"
	  "status: {loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: Proxy}]}}\n"
	  SLICE("a", "web", "{addresses: [10.1.0.1]}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 0.0.0.0:30080 node-port least-request affinity 10800s this-node endpoints 1\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request affinity 10800s endpoints 1\n"
	  "  frontend 203.0.113.1:80 load-balancer least-request affinity 10800s endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\n" },
	{ "an address of one family gets endpoints of that family",
	  SERVICE("web", "clusterIPs: [10.96.0.1, \"fd00::1\"], clusterIP: 10.96.0.1, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1]}")
	  "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: b, labels: "
	  "{kubernetes.io/service-name: web}}\naddressType: IPv6\nports: [{port: 8080}]\n"
	  "endpoints: [{addresses: [\"fd01::1\"]}, {addresses: [\"fd01::2\"]}]\n",
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  frontend [fd00::1]:80 cluster-ip least-request endpoints 2\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "  endpoint [fd01::1]:8080 ready weight 1\n"
	  "  endpoint [fd01::2]:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\naddress fd00::1 refuse\n" },
	{ "the exact rule before the wildcard",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  SERVICE("api", "clusterIP: 10.96.0.2, ports: [{port: 80}]")
	  RULE("a", "*.svc.cluster.local", "RANDOM") RULE("b", "web", "ROUND_ROBIN"),
	  "service default/api port 80/TCP\n"
	  "  frontend 10.96.0.2:80 cluster-ip random endpoints 0\n"
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip round-robin endpoints 0\n"
	  "address 10.96.0.1 refuse\naddress 10.96.0.2 refuse\n" },
	{ "ServiceEntry with weights",
	  "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x}\nspec:\n  hosts: [x.example]\n"
	  "  addresses: [198.51.100.1]\n  resolution: STATIC\n  location: MESH_EXTERNAL\n"
	  "  ports: [{number: 443, name: tls, protocol: TLS}]\n"
	  "  endpoints: [{address: 10.2.0.1, weight: 9}, {address: 10.2.0.2, ports: {tls: 8443}}]\n",
	  "service default/x.example port 443/TCP tls\n"
	  "  frontend 198.51.100.1:443 service-entry least-request endpoints 2\n"
	  "  endpoint 10.2.0.1:443 ready weight 9\n"
	  "  endpoint 10.2.0.2:8443 ready weight 1\n" },
	{ "ServiceEntry NONE is passed",
	  "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x}\nspec:\n  hosts: [x.example]\n"
	  "  addresses: [198.51.100.1]\n  resolution: NONE\n  location: MESH_EXTERNAL\n"
	  "  ports: [{number: 443, name: tls, protocol: TLS}]\n",
	  "service default/x.example port 443/TCP tls\n"
	  "  frontend 198.51.100.1:443 service-entry pass\n" },
	{ "an external address that is a pod's",
	  SERVICE("web", "clusterIP: 10.96.0.1, externalIPs: [10.1.0.1], ports: [{port: 80}]")
	  POD("p1", "nodeName: there, containers: [{name: c}]", "podIP: 10.1.0.1"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 0\n"
	  "address 10.96.0.1 refuse\nworkload 10.1.0.1 Pod default/p1\n",
	  "10.1.0.1 is a workload's address" },
	{ "an external address that is a node's",
	  NODE("there", "z1", "192.0.2.2") SERVICE("web", "externalIPs: [192.0.2.2], ports: [{port: 80}]"),
	  "service default/web port 80/TCP\naddress 192.0.2.2 node\n", "192.0.2.2 is a node's address" },
	{ "an external address that is allowed although it is a node's",
	  NODE("there", "z1", "192.0.2.2") SERVICE("web", "externalIPs: [192.0.2.2], ports: [{port: 80}]")
	  "---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\n"
	  "spec: {externalAddresses: {allow: [192.0.2.0/24]}}\n",
	  "service default/web port 80/TCP\n  frontend 192.0.2.2:80 external-ip least-request endpoints 0\n"
	  "address 192.0.2.2 node\n" },
	{ "conditions that are not said: ready and serving, also of one that terminates",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1], conditions: {ready: false, terminating: true}}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 serving weight 1\n"
	  "address 10.96.0.1 refuse\n" },
	{ "publishNotReadyAddresses",
	  SERVICE("web", "clusterIP: 10.96.0.1, publishNotReadyAddresses: true, ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1], conditions: {ready: false, serving: false}}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\n" },
	{ "zone hints that all ready endpoints carry count without being asked for",
	  NODE("here", "z1", "192.0.2.1") SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  SLICE("a", "web",
		"{addresses: [10.1.0.1], zone: z2, hints: {forZones: [{name: z1}]}}, "
		"{addresses: [10.1.0.2], zone: z1, hints: {forZones: [{name: z2}]}}, "
		"{addresses: [10.1.0.3], conditions: {ready: false}}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1 unused\n"
	  "  endpoint 10.1.0.3:8080 draining weight 1 unused\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "zone hints that one ready endpoint lacks count for nothing",
	  NODE("here", "z1", "192.0.2.1") SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1], hints: {forZones: [{name: z1}]}}, {addresses: [10.1.0.2]}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 2\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "node hints before zone hints",
	  NODE("here", "z1", "192.0.2.1") SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  SLICE("a", "web",
		"{addresses: [10.1.0.1], hints: {forZones: [{name: z1}], forNodes: [{name: there}]}}, "
		"{addresses: [10.1.0.2], hints: {forZones: [{name: z2}], forNodes: [{name: here}]}}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1 unused\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "hints are not for internalTrafficPolicy Local, and not for those that terminate",
	  NODE("here", "z1", "192.0.2.1")
	  SERVICE("web", "clusterIP: 10.96.0.1, internalTrafficPolicy: Local, externalIPs: [192.0.2.9], ports: [{port: 80}]")
	  SLICE("a", "web",
		"{addresses: [10.1.0.1], nodeName: here, hints: {forZones: [{name: z2}]}, "
		"conditions: {ready: false, serving: true, terminating: true}}, "
		"{addresses: [10.1.0.2], nodeName: there, hints: {forZones: [{name: z2}]}}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request local endpoints 1\n"
	  "  frontend 192.0.2.9:80 external-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 serving weight 1 local here\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "PreferSameNode takes this node",
	  NODE("here", "z1", "192.0.2.1")
	  SERVICE("web", "clusterIP: 10.96.0.1, trafficDistribution: PreferSameNode, ports: [{port: 80}]")
	  SLICE("a", "web",
		"{addresses: [10.1.0.1], zone: z1, nodeName: here}, {addresses: [10.1.0.2], zone: z1, nodeName: there}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1 here\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1 unused\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "PreferSameNode falls back to the zone",
	  NODE("here", "z1", "192.0.2.1")
	  SERVICE("web", "clusterIP: 10.96.0.1, trafficDistribution: PreferSameNode, ports: [{port: 80}]")
	  SLICE("a", "web",
		"{addresses: [10.1.0.1], zone: z1, nodeName: here, conditions: {ready: false}}, "
		"{addresses: [10.1.0.2], zone: z1, nodeName: there}, {addresses: [10.1.0.3], zone: z2, nodeName: far}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 draining weight 1 unused here\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1\n"
	  "  endpoint 10.1.0.3:8080 ready weight 1 unused\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "PreferSameNode falls back to all",
	  NODE("here", "z1", "192.0.2.1")
	  SERVICE("web", "clusterIP: 10.96.0.1, trafficDistribution: PreferSameNode, ports: [{port: 80}]")
	  SLICE("a", "web", "{addresses: [10.1.0.2], zone: z2, nodeName: there}, {addresses: [10.1.0.3], nodeName: far}"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 2\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1\n"
	  "  endpoint 10.1.0.3:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\naddress 192.0.2.1 node this-node\n" },
	{ "WorkloadEntries join a service's slices, each with its own port",
	  SERVICE("web", "clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]")
	  "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
	  "metadata: {name: a, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\n"
	  "ports: [{name: http, port: 8080}]\nendpoints: [{addresses: [10.1.0.1]}]\n"
	  ENTRY("vm1", "address: 10.3.0.1, weight: 2") ENTRY("vm2", "address: 10.3.0.2, ports: {http: 81}"),
	  "service default/web port 80/TCP http\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 3\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "  endpoint 10.3.0.1:8080 ready weight 2 WorkloadEntry default/vm1\n"
	  "  endpoint 10.3.0.2:81 ready weight 1 WorkloadEntry default/vm2\n"
	  "address 10.96.0.1 refuse\n"
	  "workload 10.3.0.1 WorkloadEntry default/vm1\nworkload 10.3.0.2 WorkloadEntry default/vm2\n" },
	{ "a WorkloadEntry without the targetPort that is named is no endpoint",
	  SERVICE("web", "clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: web-port}]")
	  ENTRY("vm1", "address: 10.3.0.1, ports: {http: 81}") ENTRY("vm2", "address: 10.3.0.2, ports: {web-port: 82}"),
	  "service default/web port 80/TCP http\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.3.0.2:82 ready weight 1 WorkloadEntry default/vm2\n"
	  "address 10.96.0.1 refuse\n"
	  "workload 10.3.0.1 WorkloadEntry default/vm1\nworkload 10.3.0.2 WorkloadEntry default/vm2\n" },
	{ "a pod without the targetPort that is named is no endpoint, a host-network pod is one without a workload's address",
	  SERVICE("web", "clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}]")
	  POD("p1", "nodeName: here, containers: [{name: c}]", "podIP: 10.1.0.1")
	  POD("p2", "nodeName: there, hostNetwork: true, containers: [{name: c, ports: [{name: http, containerPort: 82}]}]",
	      "podIP: 192.0.2.2"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 192.0.2.2:82 ready weight 1\n"
	  "address 10.96.0.1 refuse\nworkload 10.1.0.1 Pod default/p1\n" },
	{ "ServiceEntry selects pods and WorkloadEntries",
	  EXTERNAL("x", "2024-01-01T00:00:00Z",
		   "addresses: [198.51.100.1], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], "
		   "workloadSelector: {labels: {app: web}}")
	  POD("p1", "nodeName: there, containers: [{name: c}]", "podIP: 10.1.0.1")
	  ENTRY("vm1", "address: 10.3.0.1, ports: {http: 81}, weight: 5") ENTRY("vm2", "address: 10.3.0.2"),
	  "service default/x.example port 80/TCP http\n"
	  "  frontend 198.51.100.1:80 service-entry least-request endpoints 3\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1 Pod default/p1\n"
	  "  endpoint 10.3.0.1:81 ready weight 5 WorkloadEntry default/vm1\n"
	  "  endpoint 10.3.0.2:8080 ready weight 1 WorkloadEntry default/vm2\n"
	  "workload 10.1.0.1 Pod default/p1\n"
	  "workload 10.3.0.1 WorkloadEntry default/vm1\nworkload 10.3.0.2 WorkloadEntry default/vm2\n" },
	{ "of two ServiceEntries with one host and port the older one counts",
	  EXTERNAL("a", "2024-02-01T00:00:00Z",
		   "addresses: [198.51.100.1], ports: [{number: 80, name: http, protocol: HTTP}, "
		   "{number: 81, name: other, protocol: HTTP}], endpoints: [{address: 10.2.0.1}]")
	  EXTERNAL("b", "2024-01-01T00:00:00Z",
		   "addresses: [198.51.100.2], ports: [{number: 80, name: http, protocol: HTTP}], "
		   "endpoints: [{address: 10.2.0.2}]"),
	  "service default/x.example port 80/TCP http\n"
	  "  frontend 198.51.100.2:80 service-entry least-request endpoints 1\n"
	  "  endpoint 10.2.0.2:80 ready weight 1\n"
	  "service default/x.example port 81/TCP other\n"
	  "  frontend 198.51.100.1:81 service-entry least-request endpoints 1\n"
	  "  endpoint 10.2.0.1:81 ready weight 1\n",
	  "ServiceEntry default/b, which is older, already describes port 80" },
	{ "an SCTP port has no frontend, the others do",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{name: a, port: 80, protocol: SCTP}, {name: b, port: 80, protocol: UDP}]"),
	  "service default/web port 80/UDP b\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 0\n"
	  "address 10.96.0.1 refuse\n" },
	{ "two services with one NodePort: the first by name keeps it",
	  SERVICE("a", "type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]")
	  SERVICE("b", "type: NodePort, clusterIP: 10.96.0.2, ports: [{port: 80, nodePort: 30080}]"),
	  "service default/a port 80/TCP\n"
	  "  frontend 0.0.0.0:30080 node-port least-request endpoints 0\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 0\n"
	  "service default/b port 80/TCP\n"
	  "  frontend 10.96.0.2:80 cluster-ip least-request endpoints 0\n"
	  "address 10.96.0.1 refuse\naddress 10.96.0.2 refuse\n",
	  "node port 30080/TCP already belongs to Service default/a" },
	{ "one NodePort number for TCP and UDP",
	  SERVICE("a", "type: NodePort, clusterIP: 10.96.0.1, ports: [{name: t, port: 53, nodePort: 30053}, "
		       "{name: u, port: 53, protocol: UDP, nodePort: 30053}]"),
	  "service default/a port 53/TCP t\n"
	  "  frontend 0.0.0.0:30053 node-port least-request endpoints 0\n"
	  "  frontend 10.96.0.1:53 cluster-ip least-request endpoints 0\n"
	  "service default/a port 53/UDP u\n"
	  "  frontend 0.0.0.0:30053 node-port least-request endpoints 0\n"
	  "  frontend 10.96.0.1:53 cluster-ip least-request endpoints 0\n"
	  "address 10.96.0.1 refuse\n" },
	{ "a dual-stack NodePort has a frontend for each family",
	  SERVICE("web", "type: NodePort, clusterIPs: [10.96.0.1, \"fd00::1\"], clusterIP: 10.96.0.1, "
			 "ipFamilyPolicy: PreferDualStack, ports: [{port: 80, nodePort: 30080}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1]}") SLICE6("b", "web", "{addresses: [\"fd01::1\"]}, {addresses: [\"fd01::2\"]}"),
	  "service default/web port 80/TCP\n"
	  "  frontend [::]:30080 node-port least-request endpoints 2\n"
	  "  frontend 0.0.0.0:30080 node-port least-request endpoints 1\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  frontend [fd00::1]:80 cluster-ip least-request endpoints 2\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "  endpoint [fd01::1]:8080 ready weight 1\n"
	  "  endpoint [fd01::2]:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\naddress fd00::1 refuse\n" },
	{ "a NodePort of one family leaves the other alone",
	  SERVICE("web", "type: NodePort, clusterIP: \"fd00::1\", ports: [{port: 80, nodePort: 30080}]")
	  SLICE("a", "web", "{addresses: [10.1.0.1]}") SLICE6("b", "web", "{addresses: [\"fd01::1\"]}"),
	  "service default/web port 80/TCP\n"
	  "  frontend [::]:30080 node-port least-request endpoints 1\n"
	  "  frontend [fd00::1]:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1 unused\n"
	  "  endpoint [fd01::1]:8080 ready weight 1\n"
	  "address fd00::1 refuse\n" },
	{ "two services on one address with different ports",
	  SERVICE("a", "clusterIP: 10.96.0.1, ports: [{port: 80}]") SLICE("a", "a", "{addresses: [10.1.0.1]}")
	  SERVICE("b", "clusterIP: 10.96.0.1, ports: [{port: 81}]") SLICE("b", "b", "{addresses: [10.1.0.2]}"),
	  "service default/a port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1\n"
	  "service default/b port 81/TCP\n"
	  "  frontend 10.96.0.1:81 cluster-ip least-request endpoints 1\n"
	  "  endpoint 10.1.0.2:8080 ready weight 1\n"
	  "address 10.96.0.1 refuse\n" },
	{ "PASSTHROUGH is passed",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]") SLICE("a", "web", "{addresses: [10.1.0.1]}")
	  RULE("a", "web", "PASSTHROUGH"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip pass\n"
	  "  endpoint 10.1.0.1:8080 ready weight 1 unused\n"
	  "address 10.96.0.1 refuse\n" },
	{ "a port's own settings, which inherit nothing",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 81}, {name: c, port: 82}]")
	  "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web}\n"
	  "spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 81}, "
	  "loadBalancer: {simple: ROUND_ROBIN}}, {port: {number: 82}}]}}\n",
	  "service default/web port 80/TCP a\n"
	  "  frontend 10.96.0.1:80 cluster-ip random endpoints 0\n"
	  "service default/web port 81/TCP b\n"
	  "  frontend 10.96.0.1:81 cluster-ip round-robin endpoints 0\n"
	  "service default/web port 82/TCP c\n"
	  "  frontend 10.96.0.1:82 cluster-ip least-request endpoints 0\n"
	  "address 10.96.0.1 refuse\n" },
	{ "a rule of the service's namespace before the older one of another, even if that names it better",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: other, namespace: evil, "
	  "creationTimestamp: \"2020-01-01T00:00:00Z\"}\nspec: {host: web.default.svc.cluster.local, trafficPolicy: "
	  "{loadBalancer: {simple: PASSTHROUGH}}}\n"
	  RULE("own", "*.default.svc.cluster.local", "RANDOM"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip random endpoints 0\n"
	  "address 10.96.0.1 refuse\n" },
	{ "a rule of another namespace where there is no own one; its short name means nothing here",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: other, "
	  "creationTimestamp: \"2020-01-01T00:00:00Z\"}\nspec: {host: web, trafficPolicy: "
	  "{loadBalancer: {simple: PASSTHROUGH}}}\n"
	  "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: b, namespace: other}\n"
	  "spec: {host: web.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\n",
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip round-robin endpoints 0\n"
	  "address 10.96.0.1 refuse\n" },
	{ "of two rules with one host the one that says something, though it is younger",
	  SERVICE("web", "clusterIP: 10.96.0.1, ports: [{port: 80}]")
	  "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: subsets, creationTimestamp: "
	  "\"2020-01-01T00:00:00Z\"}\nspec: {host: web}\n"
	  RULE("b", "web.default.svc.cluster.local", "RANDOM"),
	  "service default/web port 80/TCP\n"
	  "  frontend 10.96.0.1:80 cluster-ip random endpoints 0\n"
	  "address 10.96.0.1 refuse\n" },
};

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct weft_model *model = model_make();
		struct toy *toy = calloc(1, sizeof(*toy));
		struct weft_problems problems = { 0 };
		struct weft_buf have = WEFT_BUF_INIT;

		load(model, table[i].yaml);
		commit(model, toy, SECOND, NULL, &problems);
		assert_int_equal(weft_model_print(model, &have), 0);
		if (strcmp(have.data, table[i].want) != 0)
			fail_msg("%s\nhave:\n%s\nwant:\n%s", table[i].name, have.data, table[i].want);
		assert_int_equal(problems.errors, table[i].problem ? 1 : 0);
		if (table[i].problem && !strstr(problems.item[0].text, table[i].problem))
			fail_msg("%s: %s", table[i].name, problems.item[0].text);
		weft_problems_done(&problems);
		weft_buf_done(&have);
		free(toy);
		weft_model_free(model);
	}
}

/* `allow` as MeshConfig has it. Returns what is said against an external address, "" if nothing is; the caller frees it. */
static char *verdict(const char *address, const char *allow, bool *ret_frontend)
{
	static const char yaml[] = NODE("there", "z1", "192.0.2.2")
		POD("p1", "nodeName: there, containers: [{name: c}]", "podIP: 10.1.0.1")
		SERVICE("web", "type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]")
		"status: {loadBalancer: {ingress: [{ip: \"%s\"}]}}\n"
		"---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\n"
		"spec: {externalAddresses: {allow: [%s]}}\n";
	struct weft_model *model = model_make();
	struct toy *toy = calloc(1, sizeof(*toy));
	struct weft_problems problems = { 0 };
	char text[2000], shown[WEFT_ADDR_TEXT], *said;
	struct weft_addr addr;

	assert_in_range(snprintf(text, sizeof(text), yaml, address, allow), 1, sizeof(text) - 1);
	load(model, text);
	commit(model, toy, SECOND, NULL, &problems);
	assert_in_range(problems.count, 0, 1);
	said = strdup(problems.count ? problems.item[0].text : "");
	if (problems.count)
		assert_string_equal(problems.item[0].path, "status.loadBalancer.ingress[0]");
	assert_int_equal(weft_addr_parse(address, &addr), 0);
	*ret_frontend = toy_frontend(toy, weft_addr_port_format(&addr, 80, shown), IPPROTO_TCP) != NULL;
	assert_non_null(toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP));
	weft_problems_done(&problems);
	free(toy);
	weft_model_free(model);
	return said;
}

static void test_external_addresses(void **state)
{
	static const struct {
		const char *address, *allow, *why;
	} address[] = {
		{ "127.0.0.1", "127.0.0.0/8", "is a loopback address" },
		{ "::1", "\"::1/128\"", "is a loopback address" },
		{ "169.254.20.10", "169.254.20.10/32", "is a link-local address" },
		{ "fe80::1", "\"fe80::/10\"", "is a link-local address" },
		{ "192.0.2.2", "192.0.2.0/24", "is a node's address" },
		{ "10.1.0.1", "10.0.0.0/8", "is a workload's address" },
	};
	bool frontend;
	char *said;

	(void)state;
	for (size_t i = 0; i < WEFT_ARRAY_SIZE(address); i++) {
		said = verdict(address[i].address, "", &frontend);
		if (!strstr(said, address[i].why) || !strstr(said, address[i].address) || frontend)
			fail_msg("%s: %s", address[i].address, said);
		free(said);
		said = verdict(address[i].address, address[i].allow, &frontend);
		if (*said || !frontend)
			fail_msg("%s is allowed: %s", address[i].address, said);
		free(said);
	}
	said = verdict("203.0.113.1", "", &frontend);
	assert_string_equal(said, "");
	assert_true(frontend);
	free(said);
}

static int list_binding(void *context, uint32_t workload, const char *netns, uint32_t flags)
{
	struct weft_buf *list = context;

	return weft_buf_printf(list, "%u %s %u;", workload, netns, flags);
}

static void check_bindings(const char *yaml, const char *want)
{
	struct weft_model *model = model_make();
	struct toy *toy = calloc(1, sizeof(*toy));
	struct weft_buf list = WEFT_BUF_INIT;

	load(model, yaml);
	assert_int_equal(weft_model_bindings(model, list_binding, &list), 0);
	assert_int_equal(list.size, 0); /* nobody has an id yet */
	commit(model, toy, SECOND, NULL, NULL);
	assert_int_equal(weft_model_bindings(model, list_binding, &list), 0);
	assert_string_equal(list.data ? list.data : "", want);
	weft_buf_done(&list);
	free(toy);
	weft_model_free(model);
}

#define BOUND(LABELS)                                                                                            \
	"---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, annotations: {weft.dev/netns: ns-p}, " \
	"labels: {" LABELS "}}\nspec: {containers: [{name: c}]}\nstatus: {podIP: 10.1.0.1}\n"
#define NAMESPACE(LABELS) "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {" LABELS "}}\n"
#define OUT "istio.io/dataplane-mode: none"
#define IN "istio.io/dataplane-mode: ambient"

static void test_bindings_and_who_is_opted_out(void **state)
{
	(void)state;
	check_bindings(BOUND("app: web"), "1 ns-p 0;");
	check_bindings(BOUND(OUT), "1 ns-p 1;");
	check_bindings(BOUND("app: web") NAMESPACE(OUT), "1 ns-p 1;");
	check_bindings(BOUND(IN) NAMESPACE(OUT), "1 ns-p 0;");
	check_bindings(BOUND(OUT) NAMESPACE(IN), "1 ns-p 1;");
	check_bindings(BOUND("app: web") NAMESPACE(IN), "1 ns-p 0;");
	check_bindings(POD("p", "containers: [{name: c}]", "podIP: 10.1.0.1"), "");
	check_bindings("---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: "
		       "shop, annotations: {weft.dev/netns: ns-vm}}\nspec: {address: 10.3.0.1}\n" NAMESPACE(OUT),
		       "1 ns-vm 1;");
}

/* Whoever is bound here is local without a node's name, and a Local service finds it. */
static void test_a_bound_workload_is_local(void **state)
{
	static const char service[] =
		"---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
		"spec: {clusterIP: 10.96.0.1, internalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80}]}\n";
	struct weft_model *model = model_make();
	struct toy *toy = calloc(1, sizeof(*toy));
	struct weft_endpoint_at *at;
	struct weft_frontend_key key = { .port = htons(80), .protocol = IPPROTO_TCP };

	(void)state;
	load(model, service);
	load(model, BOUND("app: web"));
	commit(model, toy, SECOND, NULL, NULL);
	assert_int_equal(toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->count, 1);
	assert_int_equal(weft_addr_parse("10.1.0.1", &key.addr), 0);
	assert_non_null(toy_find(toy, WEFT_MAP_ENDPOINT_AT, &key));
	at = &toy_find(toy, WEFT_MAP_ENDPOINT_AT, &key)->at;
	assert_int_equal(at->service, toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->service);
	/* The pod stays, its binding goes. */
	load(model, "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {app: web}}\n"
		    "spec: {containers: [{name: c}]}\nstatus: {podIP: 10.1.0.1}\n");
	commit(model, toy, 2 * SECOND, NULL, NULL);
	assert_int_equal(toy_frontend(toy, "10.96.0.1:80", IPPROTO_TCP)->count, 0);
	assert_null(toy_find(toy, WEFT_MAP_ENDPOINT_AT, &key));
	free(toy);
	weft_model_free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_external_addresses),
		cmocka_unit_test(test_bindings_and_who_is_opted_out),
		cmocka_unit_test(test_a_bound_workload_is_local),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
