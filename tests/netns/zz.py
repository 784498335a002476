from mesh import *
def topology(lab):
    prepare(lab, ["client"], ["web"])
    lab.web.serve(80, mode="ends")
    lab.before={p.name:1 for p in (lab.client,)}
    start_all(lab, [lab.client, lab.web], *web_service(lab.web))
def test_a(lab):
    for n in (lab, lab.two):
        for m in ("weft_workload","weft_capture","weft_setting","weft_workload_at"):
            print("#",n.node_name,m,n.maps(m))
    for p in (lab.client,lab.web):
        print("#",sh("ip","-n",p.netns,"rule"),sh("ip","-n",p.netns,"route","show","table","15008"), sh("nsenter",f"--net=/run/netns/{p.netns}","ss","-Hltn"))
    print("#", lab.status()["roles"])
    print(lab.tail())
main(topology)
