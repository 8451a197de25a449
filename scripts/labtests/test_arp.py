"""Hardware addresses change, and strangers claim the VIP: traffic finds its way."""

import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from conftest import ROUTED_BACKEND
from helpers import ask, counters, curl, eventually, flow_count, get

from lab_lib.content import sha256_of
from lab_lib.topology import VIP, mac_of

BACKEND, GATEWAY = "backend1", "router"
SWITCH, SWITCH_MAC = "10.60.0.1", mac_of("10.60.0.1")
BROADCAST = "ff:ff:ff:ff:ff:ff"
STRANGER, STRANGER_MAC = "backend3", "02:bb:00:00:00:99"
# A second after it is counted, control looks.
LOGGED_WITHIN_S = 3


def _arp(operation, sender, sender_mac, target, to):
    """An ARP frame of a sender; operation 1 asks, 2 answers."""
    def raw(mac):
        return bytes.fromhex(mac.replace(":", ""))
    unknown = bytes(6) if operation == 1 else raw(to)
    return raw(to) + raw(sender_mac) + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) \
        + raw(sender_mac) + socket.inet_aton(sender) + unknown + socket.inet_aton(target)


def _say(lab, host, interface, frame):
    """Send a frame from a host's interface."""
    with lab.socket(host, socket.AF_PACKET, socket.SOCK_RAW, 0) as cable:
        cable.bind((interface, 0))
        cable.send(frame)


@contextmanager
def another_mac(lab, host, interface, mac, *, announces):
    """A host gets another network card for a while. `announces`: it says so, now and when it gets its own one back."""
    address = next(i.address for i in lab.plan.hosts[host].interfaces if i.name == interface)

    def change(to):
        lab.run(host, ["ip", "link", "set", interface, "address", to])
        if announces:
            _say(lab, host, interface, _arp(1, address, to, address, BROADCAST))
    change(mac)
    try:
        yield
    finally:
        change(mac_of(address))
        # Whatever follows begins with a network where everybody knows everybody.
        _say(lab, host, interface, _arp(1, address, mac_of(address), address, BROADCAST))


@pytest.mark.parametrize("host, interface", [(BACKEND, "data0"), (GATEWAY, "fabric0")])
def test_a_new_mac_in_mid_download(lab, tmp_path, host, interface):
    """A failover of the network card: whoever changed says so, and all downloads go on."""
    eventually(lambda: flow_count(lab) == 0, timeout_s=10, what="what came before is over, its resets too")
    backends, before = [BACKEND, ROUTED_BACKEND], counters(lab)
    with ThreadPoolExecutor(2) as pool:
        downloads = [pool.submit(curl, lab, "-o", tmp_path / backend, "--limit-rate", "25M",
                                 lab.url(f"/b/{backend}/files/50m")) for backend in backends]
        time.sleep(0.5)
        with another_mac(lab, host, interface, "02:bb:00:00:00:01", announces=True):
            time.sleep(0.5)
            assert not any(download.done() for download in downloads), "the change came in their midst"
            for backend in backends:
                assert get(lab, f"/b/{backend}/who").backend == backend
            for download in downloads:
                download.result()
    for backend in backends:
        assert sha256_of(tmp_path / backend) == sha256_of(lab.content_dir / "50m")
    after = counters(lab)
    assert after["arp_learned"] - before["arp_learned"] >= 2, "there and back"
    changed = {name: value - before[name] for name, value in after.items() if value != before[name]}
    assert "resets_sent" not in changed and "flows_gone" not in changed, changed
    eventually(lambda: get(lab, f"/b/{BACKEND}/who").backend == BACKEND, timeout_s=2, what="all is as it was")


def test_another_host_takes_the_vip_from_the_router(lab):
    """A claim the router believes: the switch says whose the VIP is (RFC 5227, section 2.4), at most every 10 s: so this test comes first."""
    assert get(lab, "/who").status == 200
    before, began = counters(lab), time.monotonic()
    # A kernel holds on to what it learned within the last second.
    time.sleep(1.1)
    _say(lab, STRANGER, "data0", _arp(1, VIP, STRANGER_MAC, VIP, BROADCAST))
    try:
        eventually(lambda: counters(lab)["drop_address_conflict"] > before["drop_address_conflict"], timeout_s=2,
                   what="the switch hears it")
        curl(lab, lab.url("/who"), timeout_s=4)
        assert SWITCH_MAC in lab.run("router", ["ip", "neigh", "show", VIP]).stdout
        print(f"{time.monotonic() - began:.1f} s")
    finally:
        lab.run("router", ["ip", "neigh", "del", VIP, "dev", "fabric0"])


def _conflicts_logged(lab):
    """The switch's warnings that another host claims an address."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", (lab.run_dir / "switch.log").read_text())
    return [line for line in text.splitlines() if "claims an address" in line and STRANGER_MAC in line]


def test_another_host_answers_for_the_vip(lab):
    """The switch hears it, counts each claim, and tells the log once."""
    before, claims = counters(lab), 20
    with lab.connect("client1") as connection:
        assert ask(connection, f"/b/{BACKEND}/who").backend == BACKEND
        for number in range(claims):
            operation = 1 + number % 2
            _say(lab, STRANGER, "data0", _arp(operation, VIP, STRANGER_MAC, SWITCH, SWITCH_MAC))
        eventually(lambda: counters(lab)["drop_address_conflict"] - before["drop_address_conflict"] == claims,
                   timeout_s=2, what="each claim is counted")
        assert ask(connection, f"/b/{BACKEND}/who").backend == BACKEND
    assert get(lab, f"/b/{ROUTED_BACKEND}/who").backend == ROUTED_BACKEND
    after = counters(lab)
    assert after["arp_learned"] == before["arp_learned"] and after["handoffs"] == before["handoffs"] + 2
    told = eventually(lambda: _conflicts_logged(lab), timeout_s=LOGGED_WITHIN_S, what="the log names the host")
    time.sleep(1.5)  # control has looked again
    assert _conflicts_logged(lab) == told and len(told) == 1, told
    assert VIP in told[0]
