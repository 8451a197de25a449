"""`scripts/compare`: puts the same requests to the same servers under one policy after the other."""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from lab_lib import Lab, LabError
from lab_lib.console import Progress, leave_when_told, machine, machine_text, run_script
from lab_lib.load import run_wrk
from lab_lib.system import require_root, wait_until
from lab_lib.topology import VIP_NAME

from . import report, workload

PREFIX = "batoncmp"
MIB = 1024 * 1024
# What stands for `policy` in a pool, by what the table calls it. Each is asked for seconds only: racc measures in such.
POLICIES = {
    "round-robin": "round-robin",
    "weighted-round-robin": "weighted-round-robin",
    "least-connections": "least-connections",
    "least-traffic": {"name": "least-traffic", "count": "bytes"},
    "weighted-least-load": "weighted-least-load",
    "fastest-response": "fastest-response",
    "two-choices": "two-choices",
    "client-hash": "client-hash",
    "maglev": {"name": "maglev", "hash": "path"},
    "maglev-bounded": {"name": "maglev", "hash": "path", "bounded_load_percent": 125},
    "url-hash": "url-hash",
    "lard": "lard",
    "lard-replicated": "lard-replicated",
    "cap": "cap",
    "racc": {"name": "racc", "interval_s": 1},
    "content-and-load": {"name": "content-and-load", "hash": "path"},
}


def _arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/compare", description="Compares dispatching policies in a lab of network namespaces on this machine: three "
        "backends, the last with other work, the same requests for popular and less popular documents under each policy.")
    parser.add_argument("--policies", default=",".join(POLICIES), metavar="LIST", help=f"which ones: {', '.join(POLICIES)} (all)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often all are asked, in turns; medians count (3)")
    parser.add_argument("--seconds", type=int, default=3, metavar="N", help="how long each is asked in a round (3)")
    parser.add_argument("--connections", type=int, default=64, metavar="N", help="requests at a time (64)")
    parser.add_argument("--documents", type=int, default=1000, metavar="N", help="how many there are to ask for (1000)")
    parser.add_argument("--zipf", type=float, default=0.9, metavar="S",
                        help="the n-th most popular is asked for as often as 1/n^S (0.9)")
    parser.add_argument("--cache-mib", type=int, default=4, metavar="N", help="room of each backend's cache (4)")
    parser.add_argument("--held", type=int, default=40, metavar="N",
                        help="connections that stay open at the last backend: its other work (40)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the order of requests (1)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results to FILE")
    parser.add_argument("--prefix", default=PREFIX, help=f"name of the lab ({PREFIX})")
    parser.add_argument("--bin-dir", metavar="DIR", help="use the programs in DIR instead of building")
    options = parser.parse_args()
    options.policies = options.policies.split(",")
    unknown = [name for name in options.policies if name not in POLICIES]
    if unknown:
        parser.error(f"--policies: {', '.join(unknown)} is not among {', '.join(POLICIES)}")
    positive = (options.rounds, options.seconds, options.connections, options.documents, options.cache_mib)
    if min(positive) < 1 or options.held < 0:
        parser.error("--rounds, --seconds, --connections, --documents and --cache-mib: at least 1; --held: at least 0")
    return options


def _sections(lab, policy):
    """Everything goes to one pool under this policy, in two classes by size; /b/held/ to the last backend."""
    names = [host.name for host in lab.plan.backends]
    return {
        "class": [{"name": "large", "priority": 1, "weight": 8}, {"name": "small", "priority": 1, "weight": 1}],
        "pool": [{"name": "held", "backends": names[-1:]}, {"name": "all", "backends": names, "policy": policy}],
        "rule": [{"vip": VIP_NAME, "path_prefix": "/b/held/", "pool": "held"},
                 *({"vip": VIP_NAME, "path_suffix": f"/{size}", "class": "large", "pool": "all"} for size in workload.LARGE),
                 {"vip": VIP_NAME, "class": "small", "pool": "all"}],
    }


def _told(lab, what):
    return json.loads(lab.batonctl(what, "--json").stdout)


def _apply(lab, policy):
    """Have the switch go by this policy, and wait until all backends may be chosen."""
    lab.write_switch_config(_sections(lab, policy))
    lab.batonctl("config", "reload")
    wait_until(lambda: all(backend["usable"] for backend in _told(lab, "backends")), timeout_s=5, what="backends are usable")


def _hold(lab, count, stack):
    """Connections to the last backend whose clients do not read what they asked for."""
    for _ in range(count):
        connection = stack.enter_context(lab.connect("client2"))
        connection.sendall(b"GET /b/held/slow/50m HTTP/1.1\r\nHost: held\r\n\r\n")
    last = lab.plan.backends[-1].name

    def are_reported():
        of_last = next(backend for backend in _told(lab, "backends") if backend["name"] == last)
        return ((of_last["load"] or {}).get("established") or 0) >= count
    wait_until(are_reported, timeout_s=5, what=f"{last} reports its other work")


def _asked(lab, sizes):
    """What each backend was asked for so far of the documents: (path, bytes) in order."""
    asked = []
    for host in lab.plan.backends:
        paths = (entry["request"].split()[1] for entry in lab.access_log(host.name) if entry["status"] == 200)
        asked.append([(path, sizes[path]) for path in paths if path in sizes])
    return asked


def _measure(lab, name, script, sizes, options):
    """One round under one policy."""
    _apply(lab, POLICIES[name])
    before = [len(asked) for asked in _asked(lab, sizes)]
    wrk = run_wrk(lab, "client1", lab.url("/"), seconds=options.seconds, connections=options.connections, close=True,
                  script=script)
    asked = [asked[start:] for start, asked in zip(before, _asked(lab, sizes))]
    if wrk["requests"] == 0 or not any(asked):
        raise LabError(f"{name}: no request was answered in {options.seconds} s: {wrk['errors']}")
    return report.Round(wrk, asked)


def _compare(lab, options, progress):
    documents = workload.documents(options.documents)
    script = lab.run_dir / "requests.lua"
    workload.write_script(script, documents, workload.drawn(documents, options.zipf, options.seed))
    sizes = {document.path: document.bytes for document in documents}
    progress.step(f"{len(documents)} documents of {sum(sizes.values()) / MIB:.1f} MiB, {options.connections} requests at a time, "
                  f"{options.rounds} rounds of {options.seconds} s for each policy; "
                  f"{options.held} connections stay open at {lab.plan.backends[-1].name}")
    rounds = {name: [] for name in options.policies}
    with ExitStack() as stack:
        _apply(lab, "round-robin")
        _hold(lab, options.held, stack)
        for number in range(options.rounds):
            for name in options.policies:
                found = _measure(lab, name, script, sizes, options)
                progress(f"round {number + 1}/{options.rounds}  {name:22} {found.requests_per_s:9,.0f} requests/s")
                rounds[name].append(found)
    # Faster policies serve more, of which more was asked for before: all are judged by as many requests as the slowest.
    count = min(each.count for of_one in rounds.values() for each in of_one)
    room = options.cache_mib * MIB
    return [{"policy": name, "settings": POLICIES[name], "compared_requests": count, **report.summary(of_one, count, room)}
            for name, of_one in rounds.items()]


def main():
    """Exit status: 0 every policy was measured, 1 not, 2 wrong usage."""
    options = _arguments()
    leave_when_told()
    progress = Progress()
    try:
        require_root()
        if not options.bin_dir:
            progress.step("what is needed from the distribution, and building (some minutes the first time)")
            run_script("install")
            run_script("build")
        lab = Lab(options.prefix, bin_dir=options.bin_dir, say=progress)
        progress.step("a lab: two clients behind a router, switch, three backends, a management network")
        with lab.running(backends=3, clients=2):
            results = _compare(lab, options, progress)
    except LabError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    where = machine()
    print("\n" + machine_text(where) + "\n" + report.table(results) + "\n\n" + report.LEGEND)
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "policies": results}, indent=1) + "\n")
    return 0


sys.exit(main())
