"""`scripts/demo`: installs, builds, brings a lab up, shows the path at work, takes the lab down."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from lab_lib import Lab, LabError, load
from lab_lib.console import Progress, leave_when_told, machine, machine_text, run_script
from lab_lib.content import SIZES
from lab_lib.system import require_root

from . import report, transfers

TARGETS = ("direct", "baton", "haproxy")
LOAD_FILES = ("1k", "64k", "1m")
PREFIX = "batondemo"


def _arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Shows Baton at work in a lab of network namespaces on this machine. "
        "Exit status 0: everything it claims held; 1: something did not, or could not be shown.")
    parser.add_argument("--keep", action="store_true", help="leave the lab up at the end")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results to FILE")
    parser.add_argument("--seconds", type=int, default=3, metavar="N", help="length of each load run (3)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="load runs of each kind; medians count (3)")
    parser.add_argument("--connections", type=int, default=64, metavar="N", help="parallel connections of load (64)")
    parser.add_argument("--targets", default=",".join(TARGETS), metavar="LIST",
                        help="which ways to put under load: direct, baton, haproxy (all)")
    parser.add_argument("--prefix", default=PREFIX, help=f"name of the lab ({PREFIX})")
    parser.add_argument("--bin-dir", metavar="DIR", help="use the programs in DIR instead of building")
    options = parser.parse_args()
    options.targets = options.targets.split(",")
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"--targets: {', '.join(sorted(unknown))} is not among {', '.join(TARGETS)}")
    if options.seconds < 1 or options.rounds < 1 or options.connections < 1:
        parser.error("--seconds, --rounds and --connections: at least 1")
    return options


def _load_cells(lab, options, progress):
    """Every size, mode and target: speed first, then what a request costs the balancers, in runs of their own."""
    ways = [load.target(lab, name) for name in options.targets]
    speed = _sample_cells(lab, options, progress, ways, options.rounds, options.seconds)
    balancers = [way for way in ways if way.process]
    costs = {}
    if balancers:
        rounds, seconds = max(1, options.rounds - 1), min(2, options.seconds)
        progress.step(f"cost: what a balancer sends is now worked on by another CPU; {rounds} rounds of {seconds} s")
        with lab.balancers_parted():
            costs = _sample_cells(lab, options, progress, balancers, rounds, seconds)
    result = [{"size": SIZES[file], "file": file, "mode": mode, "target": way.name,
               **load.summary(samples, costs.get((file, mode, way), samples))}
              for (file, mode, way), samples in speed.items()]
    load.add_ratios(result)
    return result


def _sample_cells(lab, options, progress, ways, rounds, seconds):
    """{(file, mode, way): samples}, round by round in turn: a slow minute of the machine hits all alike."""
    samples = {(file, mode, way): [] for file in LOAD_FILES for mode in load.MODES for way in ways}
    for number in range(rounds):
        for (file, mode, way), taken in samples.items():
            sample = load.measure(lab, way, file, mode, seconds=seconds, connections=options.connections)
            taken.append(sample)
            remark = f"  {sample.errors} errors" if sample.errors else ""
            progress(f"round {number + 1}/{rounds}  {file:>3} {mode:10}  {report.NAMES[way.name]:7} "
                     f"{sample.requests_per_s:9,.0f} requests/s{remark}")
    return samples


def _show(lab, options, progress, directory):
    """The demonstration on a lab that is up; returns its results."""
    with_baton = "baton" in options.targets
    result = {"machine": machine(), "transfers": [], "database": None, "client_address_seen": not with_baton,
              "load": []}
    if with_baton:
        progress.step("files through the VIP: bytes, server, and who the server thinks is asking")
        result["transfers"] = transfers.all_transfers(lab, directory, progress)
        result["database"] = transfers.database_answer(lab, directory)
        progress(f"database-like answer from {result['database']['backend']}")
        result["client_address_seen"] = all(
            shown["client_address_seen"] for shown in (*result["transfers"], result["database"]))
        progress(f"servers logged the client's true address and port: {result['client_address_seen']}")
    progress.step(f"load: {options.connections} connections, {options.rounds} rounds of {options.seconds} s")
    result["load"] = _load_cells(lab, options, progress)
    return result


def _show_in_lab(lab, options, progress):
    """Bring the lab up, show, take it down; its logs stay if something failed or does not hold."""
    lab.up(backends=3, clients=2, haproxy="haproxy" in options.targets, with_baton="baton" in options.targets)
    kept, result = False, {"claims_hold": False}
    try:
        with tempfile.TemporaryDirectory(prefix="baton-demo-") as directory:
            result = _show(lab, options, progress, Path(directory))
        result["claims_hold"] = not report.broken_claims(result)
        kept = options.keep
    finally:
        if not kept:
            progress.step("taking the lab down")
            lab.down(keep_logs=not result["claims_hold"])
    return result


def _conclude(result):
    """Print the tables and the verdict; returns the exit status."""
    if result["transfers"]:
        print("\nFiles through the VIP\n" + report.transfer_table(result["transfers"]))
    print("\nLoad: requests/s and latency (p50/p99), medians of the rounds, their least and most in parentheses\n"
          + machine_text(result["machine"]) + "\n" + report.speed_table(result["load"]))
    costs = report.cost_table(result["load"])
    if costs:
        print("\nWhat a request costs the balancer (runs of their own, its frames worked on by another CPU): CPU time of "
              "its whole\nprocess; of Baton's, in which it had work; bytes it received per byte of response\n" + costs)
    for sentence in report.errors_of_others(result["load"]):
        print(f"note: {sentence}")
    broken = report.broken_claims(result)
    for sentence in broken:
        print(f"DOES NOT HOLD: {sentence}")
    if not broken:
        print("\nEverything claimed holds.")
    return 1 if broken else 0


def main():
    """Exit status: 0 all claims hold, 1 not, 2 wrong usage."""
    options = _arguments()
    leave_when_told()
    progress = Progress()
    try:
        require_root()
        progress.step("what is needed from the distribution")
        run_script("install")
        if "baton" in options.targets and not options.bin_dir:
            progress.step("building (some minutes the first time)")
            run_script("build")
        lab = Lab(options.prefix, bin_dir=options.bin_dir, say=progress)
        progress.step("a lab: two clients behind a router, switch, three backends, a management network")
        result = _show_in_lab(lab, options, progress)
        status = _conclude(result)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
        if options.keep:
            print(f"\nThe lab is still up: {lab.hint('status')} tells what is where, {lab.hint('down')} ends it.")
        return status
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


sys.exit(main())
