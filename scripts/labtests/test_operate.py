"""What operators see of a running switch, and the frames they capture."""

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
from pathlib import Path

from helpers import ask, curl, eventually, get, status, told
from packets import HANDOFF_PORT, HEADER_BYTES

from lab_lib.topology import VIP, VIP_PORT

SYN, ACK = 0x02, 0x10


def _records(file):
    """The frames of a pcap file: little endian, microseconds, Ethernet."""
    data = file.read_bytes()
    magic, _, _, _, _, _, linktype = struct.unpack_from("<IHHIIII", data)
    assert (magic, linktype) == (0xA1B2C3D4, 1)
    at = 24
    while at < len(data):
        _, _, kept, whole = struct.unpack_from("<IIII", data, at)
        assert kept == whole
        yield data[at + 16:at + 16 + kept]
        at += 16 + kept


def _segment(packet):
    """Source, destination and flags of the TCP segment in an IPv4 packet."""
    assert packet[0] == 0x45 and packet[9] == 6
    source, destination = (socket.inet_ntoa(packet[at:at + 4]) for at in (12, 16))
    source_port, destination_port = struct.unpack_from("!HH", packet, 20)
    return (source, source_port), (destination, destination_port), packet[33]


def _is_tunnelled(packet):
    return packet[9] == 17 and struct.unpack_from("!H", packet, 22)[0] == HANDOFF_PORT


def _capture(lab, file, *wanted):
    """A capture that has begun."""
    process = lab.popen("switch", [lab.bin_dir / "batonctl", "--socket", lab.admin_socket, "--json", "capture", "-w", file, *wanted],
                        stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline() == "capturing; ctrl-c ends it\n", process.stderr.read()
    return process


def _end(process):
    """Lets a capture end; returns what batonctl says of it."""
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 0, said
    return json.loads(said)


def test_a_capture_has_a_connection_in_all_its_forms(lab, tmp_path):
    file = Path(tmp_path) / "flow.pcap"
    client = lab.address_of("client1")
    capture = _capture(lab, file, client, "--vip", f"{VIP}:{VIP_PORT}", "--seconds", "3")
    with lab.connect("client1") as connection:
        own = frozenset({connection.getsockname()[:2], (VIP, VIP_PORT)})
        ask(connection, "/who")
    get(lab, "/who", client="client2")
    assert capture.wait(timeout=20) == 0
    said = json.loads(capture.stderr.read())
    packets = [frame[14:] for frame in _records(file)]
    assert (said["frames"], said["lost"]) == (len(packets), 0)
    plain = [_segment(packet) for packet in packets if not _is_tunnelled(packet)]
    inner = [_segment(packet[20 + 8 + HEADER_BYTES:]) for packet in packets if _is_tunnelled(packet)]
    assert {host for segment in plain + inner for host, _ in segment[:2]} == {client, VIP}, "nobody else's"
    # Before the lab was ready, this client tried it: a try that was given up may still have something to say.
    plain, inner = ([segment for segment in segments if frozenset(segment[:2]) == own] for segments in (plain, inner))
    assert [flags for _, _, flags in plain][:2] == [SYN, SYN | ACK], "the handshake, from both sides"
    assert inner and all(destination == (VIP, VIP_PORT) for _, destination, _ in inner)


def test_a_capture_ends_at_its_frames_and_by_interrupt(lab, tmp_path):
    file = Path(tmp_path) / "few.pcap"
    client = lab.address_of("client1")
    few = _capture(lab, file, client, "--frames", "2")
    get(lab, "/who")
    assert few.wait(timeout=20) == 0
    assert json.loads(few.stderr.read())["frames"] == 2 == len(list(_records(file)))
    interrupted = _capture(lab, file, client)
    refused = lab.batonctl("capture", client, "-w", "/dev/null", check=False)
    assert refused.returncode == 3 and "another capture runs" in refused.stderr
    get(lab, "/files/4k")
    eventually(lambda: len(list(_records(file))) > 4, timeout_s=10, what="frames in the file while it grows")
    assert _end(interrupted)["frames"] is None
    eventually(lambda: "ended" in told(lab, "events")["events"][-1]["text"], timeout_s=5, what="the capture's end")


def test_events_tell_of_start_and_backends(lab):
    events = told(lab, "events")
    assert events["lost"] == 0 and events["events"][0]["kind"] == "started"
    usable = {event["subject"] for event in events["events"] if event["kind"] == "backend-usable"}
    assert usable == {backend["name"] for backend in told(lab, "backends")}
    text = lab.batonctl("events").stdout.splitlines()
    assert len(text) == len(events["events"]) and text[0].endswith("device " + status(lab)["device"])


def test_top_shows_rates_and_backends(lab):
    watch = lab.popen("switch", [lab.bin_dir / "batonctl", "--socket", lab.admin_socket, "top", "--once", "--interval", "2"],
                      stdout=subprocess.PIPE, text=True)
    while watch.poll() is None:
        get(lab, "/who")
    text = watch.stdout.read()
    lines = text.splitlines()
    words = lines[1].split()
    assert words[0] == "handoffs" and float(words[1].removesuffix("/s").replace("k", "e3")) > 1, text
    backends = {line.split()[0]: line.split()[1] for line in lines[lines.index("") :] if " usable " in line}
    assert backends == {backend["name"]: "usable" for backend in told(lab, "backends")}, text


def test_top_draws_on_a_terminal_and_leaves_it_as_it_was(lab):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    watch = lab.popen("switch", ["env", "TERM=xterm", lab.bin_dir / "batonctl", "--socket", lab.admin_socket, "top", "--interval", "0.2"],
                      stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""

    def shows(text):
        nonlocal seen
        seen += os.read(ours, 65536)
        return text in seen
    eventually(lambda: shows(b"backend3"), timeout_s=10, what="the backends")
    # Keys that scroll, an arrow among them, do not end it.
    os.write(ours, b"jjk\x1b[A")
    assert watch.poll() is None
    os.write(ours, b"q")
    eventually(lambda: shows(b"\x1b[?1049l"), timeout_s=10, what="the screen from before")
    assert watch.wait(timeout=10) == 0
    os.close(ours)


def test_any_http_client_can_ask(lab):
    def api(*arguments):
        return json.loads(curl(lab, "--unix-socket", str(lab.admin_socket), *arguments, client="switch"))
    assert api("http://baton/v1/status")["release"] == status(lab)["release"]
    assert [pool["name"] for pool in api("http://baton/v1/pools")] == [pool["name"] for pool in told(lab, "pools")]
    refused = lab.run("switch", ["curl", "-sS", "-w", "%{http_code}", "--unix-socket", str(lab.admin_socket), "http://baton/v1/nothing"])
    assert refused.stdout.endswith("404") and "docs/ADMIN.md" in refused.stdout


def test_a_drained_backend_gets_nothing_until_it_is_enabled(lab):
    def servers():
        return {get(lab, "/who").backend for _ in range(20)}
    before = told(lab, "config", "show")["generation"]
    everybody = servers()
    changes = told(lab, "backends", "drain", "backend1")
    assert changes["generation"] == before + 1 and len(changes["changes"]) == 1
    try:
        backend = next(backend for backend in told(lab, "backends") if backend["name"] == "backend1")
        assert backend["draining"] and not backend["usable"]
        assert len(servers()) == len(everybody) - 1
        assert "drain = true" in lab.batonctl("config", "show").stdout
        route = told(lab, "route", "GET", "http://www.example.org/who")["outcome"]["dispatch"]
        assert route["backend"] != "backend1" and route["why"]
    finally:
        lab.batonctl("backends", "enable", "backend1")
    eventually(lambda: servers() == everybody, timeout_s=10, what="every backend")
    kinds = [event["kind"] for event in told(lab, "events")["events"]]
    assert kinds.count("configuration-applied") >= 2
    unknown = lab.batonctl("backends", "drain", "nobody", check=False)
    assert unknown.returncode == 3 and "nobody" in unknown.stderr


def test_a_wrong_configuration_is_refused_and_the_old_one_runs_on(lab, tmp_path):
    before = told(lab, "config", "show")
    file = Path(tmp_path) / "wrong.toml"
    file.write_text(before["toml"] + "\n[[pool]]\nname = \"empty\"\nbackends = [\"nobody\"]\n")
    for order in ("check", "apply"):
        refused = lab.batonctl("config", order, file, check=False)
        assert refused.returncode == 3 and "nobody" in refused.stderr, refused
    assert told(lab, "config", "show") == before
    file.write_text(before["toml"])
    assert "no difference" in lab.batonctl("config", "check", file).stdout
