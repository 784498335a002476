from mesh import *
def topology(lab):
    prepare(lab, ["client"], ["web"])
    lab.web.serve(80)
    lab.web.serve(81, mode="sink")
    start_all(lab, [lab.client, lab.web])
def test_a(lab):
    for n in (10, 1000, 16000, 17000, 32000, 60000, 66000, 100000):
        with lab.client.connect(lab.web.ip, 81) as made:
            made.sendall(b"y"*n); made.shutdown(1)
            try: print("# sink", n, made.recv(100), made.recv(10))
            except OSError as e: print("# sink", n, e)
    for n in (10, 1000, 16000, 17000, 32000, 60000, 66000, 100000):
        with lab.client.connect(lab.web.ip, 80) as made:
            read_name(made)
            made.sendall(b"y"*n)
            try: print("# echo", n, len(recv_exactly(made, n)))
            except OSError as e: print("# echo", n, e)
    print(lab.tail())
    print(lab.two.tail())
main(topology)
