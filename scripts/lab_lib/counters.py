"""Reads what the kernel counted: bytes of an interface, CPU time of a process."""

import json
import os

from .network import inside
from .system import LabError, command


def interface_counters(namespace, interface):
    """rx_bytes, rx_packets, tx_bytes, tx_packets, rx_dropped, tx_dropped of an interface, since it was made."""
    link = json.loads(command(inside(namespace, ["ip", "-s", "-j", "link", "show", "dev", interface])))[0]
    stats = link.get("stats64") or link["stats"]
    return {f"{side}_{what}": stats[side][what] for side in ("rx", "tx") for what in ("bytes", "packets", "dropped")}


def cpu_time_us(pids):
    """CPU time that all threads of `pids` have used, in microseconds, from the scheduler's own nanoseconds.

    A thread that ended takes its share with it: compare two readings of programs that keep their threads.
    """
    total_ns = 0
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except FileNotFoundError:
            raise LabError(f"pid {pid} is gone: its CPU time cannot be read") from None
        for task in tasks:
            try:
                with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                    total_ns += int(file.read().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return total_ns / 1000


def tcp_counters(namespace):
    """The TCP counters of a namespace, from /proc/net/snmp and netstat: "ActiveOpens", "RetransSegs", ..."""
    counters = {}
    for table in ("snmp", "netstat"):
        lines = command(inside(namespace, ["cat", f"/proc/net/{table}"])).splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            if names.startswith(("Tcp:", "TcpExt:")):
                counters.update(zip(names.split()[1:], map(int, values.split()[1:])))
    return counters
