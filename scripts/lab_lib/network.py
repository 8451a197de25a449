"""Makes the namespaces, bridges and cables of a plan, and nothing in the machine's own namespace.

Every veth pair is created with both its ends already inside namespaces; no interface, address, route
or sysctl of the root namespace is touched, not even for a moment.
"""

import ctypes
import os
from contextlib import contextmanager

from . import weather
from .system import LabError, command
from .topology import MTU_BYTES, NETWORKS

NETNS_DIR = "/run/netns"


def netns_path(namespace):
    """The file that names a namespace."""
    return f"{NETNS_DIR}/{namespace}"


def inside(namespace, argv):
    """The command line that runs `argv` in a namespace.

    nsenter and not `ip netns exec`: the latter mounts a new /sys, which hides the pins in /sys/fs/bpf.
    """
    return ["nsenter", f"--net={netns_path(namespace)}", *argv]


def namespace_inode(namespace):
    """The identity of a namespace, or None if there is none of that name."""
    try:
        return os.stat(netns_path(namespace)).st_ino
    except FileNotFoundError:
        return None


_CLONE_NEWNET = 0x40000000


@contextmanager
def entered(namespace):
    """Put the calling thread into a namespace; sockets it makes there stay there when it has left."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(file):
        if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {file.name}")

    with open("/proc/thread-self/ns/net") as home, open(netns_path(namespace)) as there:
        enter(there)
        try:
            yield
        finally:
            enter(home)


def processes_in(namespace):
    """The pids of the processes in a namespace."""
    return [int(pid) for pid in command(["ip", "netns", "pids", namespace]).split()]


def delete_namespace(namespace):
    """Remove a namespace's name, and with it the namespace once its last process is gone."""
    command(["ip", "netns", "delete", namespace])


def build(plan, made):
    """Build the network of `plan`. Calls `made(namespace)` before and after each namespace is made."""
    present = [ns for host in plan.hosts if namespace_inode(ns := plan.namespace(host)) is not None]
    if present:
        raise LabError(f"namespaces in the way, not made by this lab: {', '.join(present)} "
                       f"(choose another --prefix, or remove them with `ip netns delete`)")
    for name in plan.hosts:
        namespace = plan.namespace(name)
        made(namespace)
        command(["ip", "netns", "add", namespace])
        made(namespace)
        _prepare_namespace(namespace)
    for network, (_, holder, bridge) in NETWORKS.items():
        if holder == "router" and not any(i.name == bridge for i in plan.hosts["router"].interfaces):
            continue
        _add_bridge(plan.namespace(holder), bridge)
        for host in plan.hosts.values():
            for interface in host.interfaces:
                if interface.network == network and not interface.is_bridge:
                    _add_cable(plan, host, interface)
    for host in plan.hosts.values():
        _configure_host(plan, host)


def _prepare_namespace(namespace):
    # A namespace inherits some of the machine's settings; these three must not depend on it. Forwarding: a host
    # (the switch above all) must not pass on what is not its own. IPv6 off before any link is up: no router
    # solicitations and no duplicate address detection in counters and captures. Congestion control: with a
    # pacing one (bbr) servers send smaller bursts, and clients acknowledge more of them; reno does not pace,
    # and is the one that every kernel permits in a namespace.
    _sysctl(namespace, {"net.ipv4.ip_forward": "0", "net.ipv4.tcp_congestion_control": "reno"})
    _sysctl(namespace, {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"},
            skip_absent=True)
    command(["ip", "-n", namespace, "link", "set", "lo", "up"])


def _sysctl(namespace, settings, *, skip_absent=False):
    flags = ["-e"] if skip_absent else []
    command(inside(namespace, ["sysctl", "-q", *flags, "-w", *(f"{k}={v}" for k, v in settings.items())]))


def _add_bridge(namespace, bridge):
    # Without multicast snooping a bridge sends no IGMP of its own into captures and counters.
    command(["ip", "-n", namespace, "link", "add", bridge, "type", "bridge", "mcast_snooping", "0"])
    command(["ip", "-n", namespace, "link", "set", bridge, "up"])


def _add_cable(plan, host, interface):
    _, holder, bridge = NETWORKS[interface.network]
    port, holder_ns, host_ns = f"p-{host.name}", plan.namespace(holder), plan.namespace(host.name)
    if host in plan.weathered and interface.network != "mgmt":
        _add_weathered_pairs(plan.namespace("weather"), (holder_ns, port), (host_ns, interface), host.name)
    else:
        _add_pair(holder_ns, port, host_ns, interface.name, interface.mac)
    if host.role == "switch" and interface.network == "data":
        _make_switch_cable_real(holder_ns, port, host_ns, interface.name)
    command(["ip", "-n", holder_ns, "link", "set", port, "master", bridge, "up"])


def _add_pair(namespace, name, peer_namespace, peer_name, peer_mac=None):
    mac = ["address", peer_mac] if peer_mac else []
    command(["ip", "-n", namespace, "link", "add", "name", name, "mtu", str(MTU_BYTES), "type", "veth",
             "peer", "name", peer_name, *mac, "mtu", str(MTU_BYTES), "netns", peer_namespace])


def _add_weathered_pairs(weather_ns, network_side, host_side, host):
    """Two pairs with the namespace of the weather between; until the weather runs, nothing passes.

    The far ends cut what they send to the MTU, so that each packet has a fate of its own and not a burst of 64 KB.
    """
    (holder_ns, port), (host_ns, interface) = network_side, host_side
    host_end, network_end = weather.ends(host)
    _add_pair(holder_ns, port, weather_ns, network_end)
    _add_pair(weather_ns, host_end, host_ns, interface.name, interface.mac)
    for end in (host_end, network_end):
        command(["ip", "-n", weather_ns, "link", "set", "dev", end, "up"])
    for namespace, name in ((holder_ns, port), (host_ns, interface.name)):
        command(inside(namespace, ["ethtool", "-K", name, "tso", "off", "gso", "off"]))


def _make_switch_cable_real(holder_ns, port, host_ns, interface_name):
    """Let what travels to the switch look as it does on copper: real checksums, no frame beyond the MTU.

    Kernels that talk over veth leave checksums undone (CHECKSUM_PARTIAL) and pass frames of up to 64 KB (TSO)
    that were never cut. A packet socket, which is what DPDK has here, receives both as they are: the checksums
    are wrong and the tail is missing. With `tx off` on the bridge's port towards the switch the kernel cuts
    every such frame to its MSS and completes its checksum on this last hop, whoever sent it and whatever it
    crossed. All other cables keep their offloads: backend, router and client pass a response in frames of up
    to 64 KB, as TSO and GRO let them on a NIC, so that a client acknowledges few of them.
    """
    command(inside(holder_ns, ["ethtool", "-K", port, "tx", "off", "tso", "off", "gso", "off"]))
    # Nothing may put the frames together again on the switch's side, and what the switch's own kernel might
    # send there (it has no address, so it should not) must not be excepted.
    command(inside(host_ns, ["ethtool", "-K", interface_name, "tx", "off", "tso", "off", "gso", "off", "gro", "off"]))


def part_balancers(plan, parted):
    """Let another CPU work on what a balancer sent: what its process is charged with ends where its cable does.

    Over veth the sender's own CPU, and in accounts its process, carries a frame through bridge, router and the
    receiver's TCP, which may send a whole response on the spot. Behind a real cable that is other machines' work.
    Receive packet steering on the far end hands each frame to another CPU (the switch's lcore has the last one),
    for every balancer alike. The price: it costs throughput, and that CPU's backlog is short
    (net.core.netdev_max_backlog, 1000 frames), so that a long burst of an upload loses its end there. For measuring
    CPU time only.
    """
    cpus = os.cpu_count() or 1
    for host in plan.of_role("switch") + plan.of_role("proxy"):
        if cpus > 1:
            path = f"/sys/class/net/p-{host.name}/queues/rx-0/rps_cpus"
            # `ip netns exec`, as only its /sys is that of the namespace.
            command(["ip", "netns", "exec", plan.namespace(NETWORKS["data"][1]), "sh", "-c",
                     f"echo {(1 << (cpus - 1)) - 1 if parted else 0:x} > {path}"])


def _configure_host(plan, host):
    namespace = plan.namespace(host.name)
    if host.role == "bridge":
        return
    if host.role == "router":
        # Answers carry the VIP as source but come from a backend that may sit on any side: no reverse path
        # filter. It forwards, and nothing else in the lab does.
        _sysctl(namespace, {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "0",
                            "net.ipv4.conf.default.rp_filter": "0"})
    for interface in host.interfaces:
        if interface.is_bridge:
            command(["ip", "-n", namespace, "link", "set", interface.name, "address", interface.mac])
        if interface.address:
            command(["ip", "-n", namespace, "address", "add", f"{interface.address}/24", "dev", interface.name])
        command(["ip", "-n", namespace, "link", "set", interface.name, "up"])
        if host.role == "router":
            _sysctl(namespace, {f"net.ipv4.conf.{interface.name}.rp_filter": "0"})
    if host.gateway:
        command(["ip", "-n", namespace, "route", "add", "default", "via", host.gateway])
