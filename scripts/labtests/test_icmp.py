"""ICMP errors that routers send to the VIP find the server whose packet they are about, and nobody else."""

import socket
import struct
from contextlib import contextmanager

import pytest
from conftest import ROUTED_BACKEND
from helpers import ask, counters, curl, eventually, flow_of, get, read_answer, request, socket_of
from packets import checksum, ethernet, ipv4

from lab_lib.content import sha256_of
from lab_lib.topology import VIP, VIP_PORT, mac_of

CLIENT = "client2"
BACKENDS = ["backend1", ROUTED_BACKEND]
NARROW_MTU = 1300
ROUTER_MAC, SWITCH_MAC, ROUTER = mac_of("10.60.0.254"), mac_of("10.60.0.1"), "10.60.0.254"
UNREACHABLE, FRAGMENTATION_NEEDED = 3, 4
SETTLED_S = 2


@contextmanager
def _narrow_path(lab, backend):
    """The router's way to one client takes packets of 1300 bytes only; nobody but the router knows.

    What a server's kernel learned of it is forgotten afterwards.
    """
    route = [f"{lab.address_of(CLIENT)}/32", "dev", "clients0"]
    lab.run("router", ["ip", "route", "add", *route, "mtu", str(NARROW_MTU)])
    try:
        yield
    finally:
        lab.run("router", ["ip", "route", "del", *route])
        # What was learned hangs on the route it was learned for.
        lab.run(backend, ["ip", "route", "del", "default"])
        lab.run(backend, ["ip", "route", "add", "default", "via", lab.plan.hosts[backend].gateway])


def _pmtu(lab, backend, connection):
    """What a server's socket knows of the path to its client."""
    words = socket_of(lab, backend, connection)["info"].split()
    return next(int(word.partition(":")[2]) for word in words if word.startswith("pmtu:"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_narrow_path_is_learned_of(lab, backend):
    """Without the router's errors, no full segment would ever arrive: the classic black hole."""
    before = counters(lab)
    with _narrow_path(lab, backend), lab.connect(CLIENT) as connection:
        answer = ask(connection, f"/b/{backend}/files/10m")
        assert answer.backend == backend and answer.sha256 == sha256_of(lab.content_dir / "10m")
        assert _pmtu(lab, backend, connection) == NARROW_MTU
        after = counters(lab)
        assert after["icmp_errors_forwarded"] > before["icmp_errors_forwarded"]
        assert ask(connection, f"/b/{backend}/files/1m").sha256 == sha256_of(lab.content_dir / "1m")


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_connections_over_a_narrow_path(lab, tmp_path, backend):
    """Also those whose first answer is long enough to be in trouble before their flow is confirmed."""
    with _narrow_path(lab, backend):
        for number in range(5):
            curl(lab, "-o", tmp_path / str(number), lab.url(f"/b/{backend}/files/256k"), client=CLIENT, timeout_s=5)
            assert sha256_of(tmp_path / str(number)) == sha256_of(lab.content_dir / "256k")


@pytest.fixture
def send(lab):
    """Puts frames on the switch's cable, as the router would."""
    with lab.socket("fabric", socket.AF_PACKET, socket.SOCK_RAW, 0) as cable:
        cable.bind(("p-switch", 0))
        yield cable.send


class Victim:
    """A connection with an answer that waits to be read, and the ICMP errors that can be made up about it."""

    def __init__(self, lab, backend):
        self.lab, self.backend = lab, backend
        self.connection = lab.connect(CLIENT)
        self.own, self.port = self.connection.getsockname()
        self.connection.sendall(request(f"/b/{backend}/files/10m"))
        eventually(lambda: (flow := flow_of(lab, self.connection)) and flow["state"] == "established", timeout_s=2,
                   what="the flow is confirmed")
        eventually(lambda: "persist" in socket_of(lab, backend, self.connection)["info"], timeout_s=2,
                   what="the client's window is full")

    def error(self, *, code=FRAGMENTATION_NEEDED, to=VIP, source=VIP, client=None, port=None, vip_port=VIP_PORT,
              protocol=6, fragment=0x4000, seq=0, quote_bytes=28, sum_off_by=0, mtu=NARROW_MTU):
        """A frame with an ICMP error that quotes a packet of the VIP; by default of this connection, but for its seq."""
        quoted = ipv4(source, client or self.own, protocol, struct.pack("!HHII", vip_port, port or self.port, seq, 0)
                      + bytes(1400))
        quoted = (quoted[:6] + struct.pack("!H", fragment) + quoted[8:])[:quote_bytes]
        message = struct.pack("!BBHHH", UNREACHABLE, code, 0, 0, mtu) + quoted
        message = message[:2] + struct.pack("!H", checksum(message) ^ sum_off_by) + message[4:]
        return ethernet(ROUTER_MAC, SWITCH_MAC, ipv4(ROUTER, to, 1, message))

    def is_whole(self):
        assert _pmtu(self.lab, self.backend, self.connection) == 1500
        answer = read_answer(self.connection)
        return answer.backend == self.backend and answer.sha256 == sha256_of(self.lab.content_dir / "10m")


@pytest.fixture(params=BACKENDS)
def victim(lab, request):
    victim = Victim(lab, request.param)
    yield victim
    victim.connection.close()


# What is said in the error, and what counts it.
FORGED = {
    "numbers never sent": ({}, "icmp_errors_forwarded"),
    "numbers never sent, port unreachable": ({"code": 3}, "icmp_errors_forwarded"),
    "another port": ({"port": 1}, "drop_icmp_unowned"),
    "another client": ({"client": "10.50.0.203"}, "drop_icmp_unowned"),
    "another service": ({"vip_port": 81}, "drop_icmp_unowned"),
    "another host's packet": ({"source": "10.60.0.11"}, "drop_icmp_other"),
    "sent to the switch": ({"to": "10.60.0.1"}, "drop_icmp_other"),
    "about UDP": ({"protocol": 17}, "drop_icmp_other"),
    "about a later fragment": ({"fragment": 0x0010}, "drop_icmp_other"),
    "quotes too little": ({"quote_bytes": 23}, "drop_icmp_other"),
    "quotes nothing": ({"quote_bytes": 0}, "drop_icmp_other"),
    "wrong checksum": ({"sum_off_by": 1}, "drop_icmp_other"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_error_changes_nothing(lab, send, victim, name):
    """Whoever does not see a connection cannot name numbers under way; the server's kernel insists on them."""
    fields, counter = FORGED[name]
    before = counters(lab)
    send(victim.error(**fields))
    eventually(lambda: counters(lab)[counter] == before[counter] + 1, timeout_s=SETTLED_S,
               what=lambda: f"{counter}; { {k: v - before[k] for k, v in counters(lab).items() if v != before[k]} }")
    after = counters(lab)
    assert after["resets_sent"] == before["resets_sent"] and after["owners_sought"] == before["owners_sought"]
    assert flow_of(lab, victim.connection)["state"] == "established"
    assert victim.is_whole()


def test_an_error_about_an_idle_client_is_nobodys(lab, send):
    """Handshake done, no request: no server has sent anything."""
    before = counters(lab)
    with lab.connect(CLIENT) as connection:
        idle = Victim.__new__(Victim)
        idle.own, idle.port = connection.getsockname()
        send(idle.error())
        eventually(lambda: counters(lab)["drop_icmp_unowned"] == before["drop_icmp_unowned"] + 1, timeout_s=SETTLED_S,
                   what="the error is counted")
        assert flow_of(lab, connection) is None and ask(connection, "/who").status == 200
    assert get(lab, "/who").status == 200
