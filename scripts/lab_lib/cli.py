"""The command `scripts/lab`."""

import argparse
import json
import os
import signal
import sys

from .lab import Lab
from .system import LabError, UsageError, require_root
from .topology import DEFAULT_PREFIX
from .weather import DEFAULT_PLACE, PLACES

_EPILOG = """\
hosts: client1 ..., router, switch, backend1 ..., haproxy (with up --haproxy)
paths any backend serves: / says what there is; /who, /files/1k ... /files/50m, /video/1k ... /video/50m,
/slow/1m, /db/?id=7; /upload takes POST and PUT; /b/backend2/who is that backend's

  scripts/lab up
  scripts/lab exec client1 curl http://10.60.0.100/who
  scripts/lab status
  scripts/lab down

exit status: 0 done; 1 failed, or status of a lab of which a part has ended; 2 wrong usage; 3 status of a lab that
is not up; of exec, the command's own
"""


def _arguments(argv):
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--prefix", default=argparse.SUPPRESS, metavar="NAME",
                        help=f"which lab; its namespaces are called NAME-HOST (default: {DEFAULT_PREFIX}). Labs of "
                             f"different names can be up at the same time")
    parser = argparse.ArgumentParser(prog="scripts/lab", parents=[common], epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description="A Baton network in namespaces of this machine, to play with. As root.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND",
                                     title="commands (each has its own --help)")

    def add(name, text, more=""):
        return commands.add_parser(name, parents=[common], help=text, description=f"{text[0].upper()}{text[1:]}. {more}")

    up = add("up", "bring the lab up and wait until it serves",
             "If that fails, what was made is taken down; logs and configuration stay and are named.")
    up.add_argument("--backends", type=int, default=3, metavar="N", help="backends on the switch's network (3)")
    up.add_argument("--clients", type=int, default=2, metavar="N", help="clients (2)")
    up.add_argument("--routed", type=int, default=0, metavar="N",
                    help="backends behind the router, numbered after the others (0)")
    up.add_argument("--haproxy", action="store_true", help="also a host `haproxy` in front of the same backends")
    up.add_argument("--weather", metavar="KEY=VALUE,...",
                    help="bad weather on some cables, such as loss=1%%,duplicate=1%%,reorder=1%%,delay=5ms,jitter=1ms,"
                         "seed=7; KEY is an option of the program `weather`")
    up.add_argument("--weather-at", choices=PLACES, default=DEFAULT_PLACE,
                    help=f"whose cables: the clients', the switch's (fabric), or those of the routed backends "
                         f"({DEFAULT_PLACE})")
    up.add_argument("--bin-dir", metavar="DIR",
                    help="where baton-switch, baton-agent and batonctl are (target/release, which scripts/build fills)")
    extent = up.add_mutually_exclusive_group()
    extent.add_argument("--bare", action="store_true", help="only the network, no process")
    extent.add_argument("--without-baton", action="store_true", help="network and web servers, no switch and agents")
    down = add("down", "take the lab down: processes, namespaces, files",
               "Also removes the logs that a failed `up` or `down --keep-logs` left.")
    down.add_argument("--keep-logs", action="store_true",
                      help="leave logs and configuration (not the keys) until the next `up` or `down`")
    status = add("status", "what is up, and where", "Exit status 1 if a part of the lab has ended, 3 if the lab is not up.")
    status.add_argument("--json", action="store_true", help="as JSON, with everything another tool needs to join in")
    execute = add("exec", "run a command on a host of the lab", "Exit status: the command's own.")
    execute.add_argument("host", metavar="HOST", help="client1, router, switch, backend1 ...")
    execute.add_argument("program", metavar="CMD", help="a program")
    execute.add_argument("arguments", metavar="ARG", nargs=argparse.REMAINDER,
                         help="its arguments; none is read as an option of scripts/lab").required = False
    return parser.parse_args(argv)


def _print_status(lab, status):
    if status["phase"] == "down":
        kept = f"; logs of the last one in {status['kept_logs']}" if status["kept_logs"] else ""
        print(f"lab {status['prefix']}: down ({lab.hint('up')} makes one{kept})")
        return
    but = f", but {'; '.join(status['faults'])}" if status["faults"] else ""
    print(f"lab {status['prefix']}: {status['phase']}{but}")
    if status["phase"] != "up":
        print(f"  an `up` is at work, or was killed: then {lab.hint('down')} clears what it made")
    print(f"  VIP http://{status['vip']['address']}:{status['vip']['port']}   files and logs in {status['run_dir']}")
    if status["hosts"]["switch"]["processes"]:
        print(f"  ask the switch: target/release/batonctl --socket {status['switch']['admin_socket']} status")
    print()
    lines = [("host", "namespace", "addresses", "processes (pid)")]
    for name, host in status["hosts"].items():
        processes = [f"{process.partition('@')[0]} {pid}" for process, pid in host["processes"].items()]
        processes += [f"{process.partition('@')[0]} ENDED, see {log}" for process, log in host["ended"].items()]
        lines.append((name, host["namespace"] if host["is_there"] else f"{host['namespace']} GONE",
                      " ".join(host["addresses"]), ", ".join(processes) or "-"))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for line in lines:
        print("  " + "  ".join(f"{value:{width}}" for value, width in zip(line, widths)) + "  " + line[3])
    if status["weather"]:
        _print_weather(status["weather"])


def _print_weather(weather):
    print(f"\n  weather at {weather['at']}: {weather['conditions']}")
    for host, cable in weather["cables"].items():
        print(f"  {host}{'' if cable['processes'] else ': ENDED, the cable is cut'}")
        for way in ("from_host", "to_host") if cable["report"] else ():
            counted = ", ".join(f"{name} {count}" for name, count in cable["report"][way].items() if count)
            print(f"    {way.replace('_', ' '):9}  {counted or 'nothing yet'}")


def _interrupted(number, _frame):
    # Leave by way of the exception handlers, so that a half-built lab is taken down.
    raise SystemExit(128 + number)


def _dispatch(options):
    prefix = getattr(options, "prefix", DEFAULT_PREFIX)
    lab = Lab(prefix, bin_dir=getattr(options, "bin_dir", None))
    if options.command == "up":
        lab.up(backends=options.backends, clients=options.clients, routed=options.routed, haproxy=options.haproxy,
               weather=options.weather, weather_at=options.weather_at,
               with_servers=not options.bare, with_baton=not (options.bare or options.without_baton))
    elif options.command == "down":
        found = lab.down(keep_logs=options.keep_logs)
        print(f"lab: {prefix!r} is down" if found else f"lab: no lab with prefix {prefix!r} is up: nothing to do",
              file=sys.stderr)
    elif options.command == "status":
        status = lab.status()
        print(json.dumps(status, indent=2)) if options.json else _print_status(lab, status)
        if status["phase"] != "up":
            return 3
        return 1 if status["faults"] else 0
    else:
        require_root()
        program = [options.program, *options.arguments]
        argv = lab.command_line(options.host, program[1:] if program[0] == "--" else program)
        sys.stdout.flush()
        os.execvp(argv[0], argv)
    return 0


def main(argv=None):
    """Exit status: 0 done; 1 failed, or `status` of a lab of which a part has ended; 2 wrong usage; 3 `status` of a lab
    that is not up; `exec`: the command's own."""
    options = _arguments(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        return _dispatch(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        # Whoever read our output, `head` say, has enough. Nothing is left that Python could fail to flush at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 130
