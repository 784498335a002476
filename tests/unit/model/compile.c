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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_table) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
