#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The configuration directory is watched: edits, renames, half-written files, symlink swaps; a bad document is refused alone.

    client ──> 10.96.0.1:80 (web)     web-a or web-b, as the files say
           ──> 10.96.0.2:80 (other)   web-a, always
"""

from lab import *


def topology(lab):
    lab.client = lab.pod("client")
    lab.a, lab.b = lab.pod("web-a"), lab.pod("web-b")
    lab.a.serve()
    lab.b.serve()
    lab.write("web.yaml", web(lab.a))
    lab.write("other.yaml", [service("other", "10.96.0.2"), endpoint_slice("other", [lab.a])])
    lab.start()


def web(pod):
    return [service("web", "10.96.0.1"), endpoint_slice("web", [pod])]


def text_of(documents):
    return yaml.safe_dump_all(documents, sort_keys=False)


def answers(lab, name):
    wait_for(lambda: lab.client.who("10.96.0.1", 80) == name, f"{name} to answer")
    equal(lab.client.who("10.96.0.2", 80), "web-a", "the other service")


def no_problems(lab):
    wait_for(lambda: not lab.problems(), lambda: f"no problems, there are {lab.problems()}")


def test_edit_in_place(lab):
    answers(lab, "web-a")
    (lab.config / "web.yaml").write_text(text_of(web(lab.b)))
    answers(lab, "web-b")
    no_problems(lab)


def test_rename_into_place(lab):
    lab.write("web.yaml", web(lab.a))
    answers(lab, "web-a")


def test_half_written(lab):
    """What was in force stays until the file is whole."""
    text = text_of(web(lab.b))
    with open(lab.config / "web.yaml", "w", encoding="utf-8") as out:
        out.write(text[: len(text) - 25])
        out.flush()
        wait_for(lab.problems, "the torn file to be noticed")
        equal(lab.client.spread("10.96.0.1", 80, 20), {"web-a": 20})
        out.write(text[len(text) - 25 :])
        out.flush()
        answers(lab, "web-b")
    no_problems(lab)


def test_no_final_newline(lab):
    """Taken once nobody has written to the file for a while, without a further event. Emptied: likewise."""
    lab.write("web.yaml", text_of(web(lab.a)).rstrip("\n"))
    answers(lab, "web-a")
    no_problems(lab)
    (lab.config / "web.yaml").write_text("")
    time.sleep(0.6)  # longer than a burst of changes is waited for
    equal(lab.client.who("10.96.0.1", 80), "web-a")
    wait_for(lambda: lab.status()["config"]["resources"] == 2, "the emptied file to take its resources with it")
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.96.0.1", 80)
    lab.apply("web.yaml", web(lab.a))
    answers(lab, "web-a")


def test_symlink_swap(lab):
    """How a ConfigMap arrives: web.yaml -> ..data/web.yaml, and ..data is swapped by rename."""
    (lab.config / "web.yaml").unlink()
    for version, pod in (("..1", lab.a), ("..2", lab.b)):
        (lab.config / version).mkdir()
        (lab.config / version / "web.yaml").write_text(text_of(web(pod)))
    (lab.config / "..data").symlink_to("..1")
    (lab.config / "web.yaml").symlink_to("..data/web.yaml")
    answers(lab, "web-a")
    (lab.config / "..data_tmp").symlink_to("..2")
    (lab.config / "..data_tmp").rename(lab.config / "..data")
    answers(lab, "web-b")
    (lab.config / "..data_tmp").symlink_to("..1")
    (lab.config / "..data_tmp").rename(lab.config / "..data")
    answers(lab, "web-a")
    for name in ("web.yaml", "..data"):
        (lab.config / name).unlink()
    lab.write("web.yaml", web(lab.a))
    answers(lab, "web-a")


def test_bad_document_alone(lab):
    """The slice of a file is bad, the service beside it is good; the slice's last good version stays in force."""
    documents = web(lab.b)
    documents[1]["endpoints"][0]["addresses"] = ["not an address"]
    lab.write("web.yaml", documents)
    problem = wait_for(lambda: [p for p in lab.problems() if p["severity"] == "error"], "the problem to be told")[0]
    true(problem["file"].endswith("web.yaml") and problem["line"] > 0, f"where: {problem}")
    contains(problem["path"], "endpoints[0].addresses[0]", "path")
    contains(problem["text"], "not an address", "text")
    equal(lab.client.spread("10.96.0.1", 80, 20), {"web-a": 20})
    states = {(r["kind"], r["name"]): r["state"] for r in lab.request({"request": "config.list"})["resources"]}
    equal(states["EndpointSlice", "web-4"], "last good")
    equal(states["Service", "web"], "in force")
    lab.write("web.yaml", web(lab.b))
    answers(lab, "web-b")
    no_problems(lab)


def test_unknown_field(lab):
    documents = web(lab.a)
    documents[0]["spec"]["sesionAffinity"] = "ClientIP"
    lab.write("web.yaml", documents)
    problem = wait_for(lambda: [p for p in lab.problems() if p["severity"] == "error"], "the problem to be told")[0]
    contains(problem["path"] + problem["text"], "sesionAffinity")
    lab.write("web.yaml", web(lab.a))
    answers(lab, "web-a")
    no_problems(lab)


def test_known_but_not_honoured_is_a_notice(lab):
    documents = web(lab.a)
    documents[0]["spec"]["loadBalancerSourceRanges"] = ["192.0.2.0/24"]
    lab.write("web.yaml", documents)
    notice = wait_for(lab.problems, "the notice")[0]
    equal(notice["severity"], "notice")
    contains(notice["path"] + notice["text"], "loadBalancerSourceRanges")
    answers(lab, "web-a")


def test_file_removed_and_back(lab):
    lab.remove("web.yaml")
    with fails(errno.ENETUNREACH):
        lab.client.connect("10.96.0.1", 80)
    lab.write("web.yaml", {"apiVersion": "v1", "kind": "List", "items": web(lab.b)})
    wait_for(lambda: any(r["name"] == "web" for r in lab.request({"request": "config.list"})["resources"]), "the list to be read")
    answers(lab, "web-b")


def test_json(lab):
    (lab.config / "web.yaml").unlink()
    lab.write("web.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": web(lab.a)}))
    wait_for(lambda: any(r["file"].endswith("web.json") for r in lab.request({"request": "config.list"})["resources"]), "web.json to be read")
    answers(lab, "web-a")


def test_endpoint_moves_between_slices(lab):
    """Under load: the same endpoint in one slice, in both, in the other; connections held are not cut."""
    lab.remove("web.json")
    one, two = (endpoint_slice("web", [lab.a], name=n) for n in ("web-1", "web-2"))
    empty = [endpoint_slice("web", [], name=n) for n in ("web-1", "web-2")]
    lab.apply("web.yaml", [service("web", "10.96.0.1"), one, empty[1]])
    held = lab.client.connect("10.96.0.1", 80)
    read_name(held)
    load = lab.client.load("10.96.0.1", 80)
    # The marker says when the file is in force: what the move alone changes in the kernel is nothing.
    lab.apply("web.yaml", [service("web", "10.96.0.1"), empty[0], two, service("marker", "10.96.0.9")])
    result = load.stop().result()
    equal(result["errors"], {}, "errors meanwhile")
    held.sendall(b"here")
    equal(held.recv(10), b"here", "the connection held across")
    reset(held)


main(topology)
