"""The command `scripts/lab`."""

import argparse
import json
import os
import signal
import sys

from .lab import Lab
from .system import LabError


def _arguments(argv):
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--prefix", default=argparse.SUPPRESS,
                        help="name of the lab and of its namespaces (default: baton); labs of different "
                             "prefixes can be up at the same time")
    parser = argparse.ArgumentParser(prog="scripts/lab", parents=[common],
                                     description="A Baton network in namespaces of this machine, to play with. "
                                                 "Hosts: client1 ..., router, switch, backend1 ...")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[common], help="bring the lab up and wait until it serves")
    up.add_argument("--backends", type=int, default=3, metavar="N", help="backends on the switch's network (3)")
    up.add_argument("--clients", type=int, default=2, metavar="N", help="clients (2)")
    up.add_argument("--routed", type=int, default=0, metavar="N",
                    help="backends behind the router, numbered after the others (0)")
    up.add_argument("--haproxy", action="store_true", help="also a host `haproxy` in front of the same backends")
    up.add_argument("--bin-dir", metavar="DIR", help="where baton-switch, baton-agent, batonctl are (target/release)")
    extent = up.add_mutually_exclusive_group()
    extent.add_argument("--bare", action="store_true", help="only the network, no process")
    extent.add_argument("--without-baton", action="store_true", help="network and web servers, no switch and agents")
    commands.add_parser("down", parents=[common], help="end its processes, remove its namespaces")
    status = commands.add_parser("status", parents=[common], help="what is up, and where")
    status.add_argument("--json", action="store_true", help="for other tools")
    execute = commands.add_parser("exec", parents=[common], help="run a command on a host of the lab")
    execute.add_argument("host", metavar="HOST")
    execute.add_argument("argv", metavar="CMD", nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


def _print_status(status):
    if status["phase"] == "down":
        print(f"lab {status['prefix']}: down")
        return
    print(f"lab {status['prefix']}: {status['phase']}   VIP http://{status['vip']['address']}:{status['vip']['port']}"
          f"   files in {status['run_dir']}")
    for name, host in status["hosts"].items():
        processes = ", ".join(f"{process.partition('@')[0]} {pid}" for process, pid in host["processes"].items())
        print(f"  {name:10} {host['namespace']:20} {' '.join(host['addresses']):26} {processes}")


def _interrupted(number, _frame):
    # Leave by way of the exception handlers, so that a half-built lab is taken down.
    raise SystemExit(128 + number)


def _dispatch(options):
    prefix = getattr(options, "prefix", "baton")
    lab = Lab(prefix, bin_dir=getattr(options, "bin_dir", None))
    if options.command == "up":
        lab.up(backends=options.backends, clients=options.clients, routed=options.routed, haproxy=options.haproxy,
               with_servers=not options.bare, with_baton=not (options.bare or options.without_baton))
    elif options.command == "down":
        lab.down()
    elif options.command == "status":
        status = lab.status()
        print(json.dumps(status, indent=2)) if options.json else _print_status(status)
        return 0 if status["phase"] == "up" else 3
    else:
        if not options.argv:
            raise LabError("exec: no command given")
        argv = lab.command_line(options.host, options.argv)
        sys.stdout.flush()
        os.execvp(argv[0], argv)
    return 0


def main(argv=None):
    """Exit status: 0 done, 1 failed, 2 wrong usage, 3 `status` of a lab that is not up; `exec`: the command's own."""
    options = _arguments(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        return _dispatch(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
