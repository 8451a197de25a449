"""Which hosts the lab has, how they are joined, and every address in it. Pure: touches nothing.

        client1 client2 ...   10.50.0.0/24
              \\  |  /
               router  .254 on each      10.61.0.0/24: routed backends
                  |
          fabric (a bridge)   10.60.0.0/24
          /      |      \\
      switch  backend1  backend2 ...     VIP 10.60.0.100

    switch and backends also meet in a management network, 10.70.0.0/24.

Cables of the clients, of the switch or of the routed backends may have weather on them (weather.py).
"""

import re
from dataclasses import dataclass

from . import weather as weather_of
from .system import UsageError

DEFAULT_PREFIX = "baton"
VIP = "10.60.0.100"
VIP_NAME = "web"
VIP_PORT = 80
TLS_PORT = 443
CONTROL_PORT = 7170
HANDOFF_PORT = 7171
METRICS_PORT = 9170
MTU_BYTES = 1500
# Host numbers run from .11: the last must stay below the VIP's .100.
HOSTS_PER_NETWORK_MAX = 64

# network -> (first three bytes, host whose namespace holds the bridge, name of that bridge there).
# The router is a layer-3 switch: its `clients0` and `routed0` are bridges with an address. A veth pair
# less on the way of every packet is CPU left for what the lab is about.
NETWORKS = {
    "clients": ("10.50.0", "router", "clients0"),
    "routed": ("10.61.0", "router", "routed0"),
    "data": ("10.60.0", "fabric", "fabric"),
    "mgmt": ("10.70.0", "mgmt", "mgmt"),
}
_PREFIX = re.compile(r"[a-z][a-z0-9]{0,15}")


@dataclass(frozen=True)
class Interface:
    """One end of a cable, or a bridge with an address. `address` None: the kernel has none there."""

    name: str
    network: str
    address: str | None
    mac: str
    is_bridge: bool = False


@dataclass(frozen=True)
class Host:
    """One network namespace. `role`: client, router, switch, backend, proxy, or bridge (no host at all)."""

    name: str
    role: str
    interfaces: tuple[Interface, ...] = ()
    gateway: str | None = None

    @property
    def data_address(self):
        """The address on the network that carries client traffic."""
        return next(i.address for i in self.interfaces if i.network != "mgmt")


def address(network, host_number):
    """The address of a host in a network."""
    return f"{NETWORKS[network][0]}.{host_number}"


def mac_of(ip):
    """A locally administered MAC that spells the address, so that captures can be read."""
    return "02:ba:" + ":".join(f"{int(byte):02x}" for byte in ip.split("."))


def _interface(name, network, host_number, *, has_address=True, is_bridge=False):
    ip = address(network, host_number)
    return Interface(name, network, ip if has_address else None, mac_of(ip), is_bridge)


def _router(networks):
    # One order for every lab: clients0, routed0 (bridges), fabric0 (a cable into the fabric).
    bridges = [_interface(NETWORKS[n][2], n, 254, is_bridge=True) for n in networks]
    return Host("router", "router", (*bridges, _interface("fabric0", "data", 254)))


class Plan:
    """The whole lab for given numbers of hosts. The last `routed` of the backends sit behind the router."""

    def __init__(self, prefix=DEFAULT_PREFIX, *, backends=3, clients=2, routed=0, haproxy=False,
                 weather=None, weather_at=weather_of.DEFAULT_PLACE):
        if not _PREFIX.fullmatch(prefix):
            raise UsageError(f"prefix {prefix!r}: lower-case letters and digits, a letter first, at most 16")
        for name, count, least in (("backends", backends, 1), ("clients", clients, 1), ("routed", routed, 0)):
            if not least <= count <= HOSTS_PER_NETWORK_MAX:
                raise UsageError(f"{name}: {count} is not within {least}..{HOSTS_PER_NETWORK_MAX}")
        if backends + routed > HOSTS_PER_NETWORK_MAX:
            raise UsageError(f"backends and routed together: at most {HOSTS_PER_NETWORK_MAX}")
        self.prefix = prefix
        self.options = {"backends": backends, "clients": clients, "routed": routed, "haproxy": haproxy,
                        "weather": weather, "weather_at": weather_at}
        self.forecast = weather_of.parse(weather, weather_at) if weather else None
        hosts = [Host("fabric", "bridge"), Host("mgmt", "bridge")]
        hosts.append(_router(["clients", "routed"] if routed else ["clients"]))
        # The switch's data port has no kernel address: the kernel sees every frame DPDK sees, and must
        # neither answer ARP nor reset connections it knows nothing of.
        hosts.append(Host("switch", "switch", (_interface("data0", "data", 1, has_address=False),
                                               _interface("mgmt0", "mgmt", 1))))
        for number in range(1, clients + 1):
            hosts.append(Host(f"client{number}", "client", (_interface("data0", "clients", 10 + number),),
                              address("clients", 254)))
        for number in range(1, backends + routed + 1):
            network = "data" if number <= backends else "routed"
            # Answers leave by the default route, past the switch: that is the one-way path.
            hosts.append(Host(f"backend{number}", "backend",
                              (_interface("data0", network, 10 + number), _interface("mgmt0", "mgmt", 10 + number)),
                              address(network, 254)))
        if haproxy:
            hosts.append(Host("haproxy", "proxy", (_interface("data0", "data", 2),), address("data", 254)))
        if self.forecast:
            hosts.append(Host("weather", "bridge"))
        self.hosts = {host.name: host for host in hosts}
        if self.forecast and not self.weathered:
            raise UsageError(f"weather at {weather_at!r}: no such cable in this lab")

    def namespace(self, host_name):
        """The name of a host's network namespace."""
        if host_name not in self.hosts:
            known = ", ".join(n for n, h in self.hosts.items() if h.role != "bridge")
            raise UsageError(f"no host {host_name!r} in this lab: {known}")
        return f"{self.prefix}-{host_name}"

    def of_role(self, role):
        """The hosts of one role, in order."""
        return [host for host in self.hosts.values() if host.role == role]

    @property
    def clients(self):
        return self.of_role("client")

    @property
    def backends(self):
        return self.of_role("backend")

    @property
    def weathered(self):
        """The hosts whose cable of client traffic has weather on it."""
        if not self.forecast:
            return []
        role, network = weather_of.PLACES[self.forecast.place]
        return [host for host in self.of_role(role) if any(i.network == network for i in host.interfaces)]
