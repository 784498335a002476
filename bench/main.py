# SPDX-License-Identifier: Apache-2.0
"""scripts/bench: runs one benchmark and writes its page. Called by scripts/bench, which has the help."""

import argparse
import os
import pathlib
import signal
import sys

import bench_churn
import bench_connect
import bench_load
import bench_open
import bench_secure
import host as hosts
import report

BENCHMARKS = {
    "open": (bench_open, "Open connections"),
    "connect": (bench_connect, "New connections"),
    "load": (bench_load, "Ten thousand services"),
    "churn": (bench_churn, "Endpoint changes under load"),
    "secure": (bench_secure, "Mutual TLS between two nodes"),
}


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures weft against direct connections and its peers, in pairs "
                                     "that are interleaved, with A/A beside every figure. docs/benchmarks/README.md has the method.")
    parser.add_argument("benchmark", nargs="+", choices=[*BENCHMARKS, "all"], metavar="BENCHMARK",
                        help="; ".join(f"{name}: {module.__doc__.split(': ', 1)[1].splitlines()[0]}" for name, (module, _) in BENCHMARKS.items()))
    parser.add_argument("--quick", action="store_true", help="a smoke run: shows that figures come out, and no more")
    parser.add_argument("--pairs", type=int, help="pairs an arm (default: 16; churn: 4; quick: 2)")
    parser.add_argument("--seconds", type=float, help="length of an arm (default: 2.5; churn: 60; quick: 0.3, churn: 3)")
    parser.add_argument("--cpus", default=None, help="CPU of the clients and CPU of the servers (default: the last two, such as 2,3)")
    parser.add_argument("--skip", action="append", default=[], choices=["weft", "nft", "haproxy", "envoy"], help="leave these arms out")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the results (default: docs/benchmarks)")
    options = parser.parse_args(arguments)
    count = os.cpu_count()
    try:
        options.cpus = tuple(int(c) for c in options.cpus.split(",")) if options.cpus else (max(count - 2, 0), count - 1)
        if len(options.cpus) != 2 or not all(0 <= c < count for c in options.cpus):
            raise ValueError
    except ValueError:
        parser.error(f"--cpus {options.cpus}: expected two CPUs from 0 to {count - 1}, such as 0,1")
    if "all" in options.benchmark:
        options.benchmark = list(BENCHMARKS)
    return options


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse(sys.argv[1:])
    for name in options.benchmark:
        module, title = BENCHMARKS[name]
        chosen = argparse.Namespace(**vars(options))
        slow = name == "churn"
        chosen.pairs = options.pairs or (2 if options.quick else 4 if slow else 16)
        chosen.seconds = options.seconds or ((3 if slow else 0.3) if options.quick else 60 if slow else 2.5)
        try:
            text, data = module.main(lambda: hosts.Host(chosen.cpus), chosen, lambda what, name=name: print(f"{name}: {what}", file=sys.stderr))
        except hosts.Unusable as error:
            sys.exit(f"scripts/bench {name}: {error}")
        data |= {"benchmark": name, "command": " ".join(["scripts/bench", *sys.argv[1:]]), "environment": hosts.environment(),
                 "pairs": chosen.pairs, "seconds": chosen.seconds, "cpus": chosen.cpus}
        print(report.write(name, title, text, data, options.out, options.quick))


if __name__ == "__main__":
    main()
