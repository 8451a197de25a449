#!/usr/bin/python3
"""Makes handoff.json from the lab tests' own implementation of the protocol: see README.md."""

import argparse
import ipaddress
import json
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "scripts" / "labtests"))
from packets import HANDOFF_PORT, checksum, ethernet, hkdf_sha256, ipv4, siphash24, tcp, udp  # noqa: E402

# The reference implementation's vectors_sip64, lengths 0 to 15.
SIPHASH = """310e0edd47db6f72 fd67dc93c539f874 5a4fa9d909806c0d 2d7efbd796666785 b7877127e09427cf 8da699cd64557618
             cee3fe586e46c9cb 37d1018bf50002ab 6224939a79f5f593 b0e4a90bdf82009e f3b9dd94c5bb5d7a a7ad6b22462fb3f4
             fbe50e86bc8f1e75 903d84c02756ea14 eef27a8e90ca23f7 e545be4961ca29a1""".split()

SECRETS = [bytes(range(32)), b"\xa5" * 32]
SWITCH, BACKEND, CLIENT, VIP = "10.60.0.1", "10.60.0.11", "10.50.0.11", "10.60.0.100"
SWITCH_MAC, BACKEND_MAC = "02:00:00:00:00:01", "02:00:00:00:01:0b"
NOW = 1_700_000_000_123_456
TYPES = {"handoff": 1, "forward": 2, "kill": 3, "killed": 4, "busy": 5, "gone": 6, "refused": 7, "who-has": 8,
         "mine": 9, "icmp": 10}
TO_SWITCH = {"killed", "busy", "gone", "refused", "mine"}
STATES = {"ESTABLISHED": 1, "SYN_SENT": 2, "SYN_RECV": 3, "FIN_WAIT1": 4, "FIN_WAIT2": 5, "TIME_WAIT": 6,
          "CLOSE_WAIT": 8, "LAST_ACK": 9, "CLOSING": 11}
LCORE_ANY = 255
ROUTER = "10.50.0.1"
QUOTED_BYTES = 40

USUAL = dict(type="handoff", wscale=[9, 7], sack=True, timestamps=True, ecn=False, mss=1460, key_id=1,
             base_seq=0x8899AABB, base_ack=0x01020304, tsval=0x11223344, tsecr=0x55667788, detail=0, lcore=0,
             generation=NOW - 250, issued=NOW)
BARE = dict(USUAL, wscale=None, sack=False, timestamps=False, mss=536, tsval=0, tsecr=0)


def canonical(address):
    ip = ipaddress.ip_address(address)
    return ip.packed if ip.version == 6 else b"\0" * 10 + b"\xff\xff" + ip.packed


def covered(fields):
    """The 48 bytes in front of the tag."""
    flags = sum(bit for bit, name in ((2, "sack"), (4, "timestamps"), (8, "ecn")) if fields[name])
    send, receive = fields["wscale"] or (0, 0)
    flags |= 1 if fields["wscale"] is not None else 0
    return struct.pack("!4sBBHBBHIIIIHBBQQ", b"BTON", 1, TYPES[fields["type"]], flags, send << 4 | receive,
                       fields["key_id"], fields["mss"], fields["base_seq"], fields["base_ack"], fields["tsval"],
                       fields["tsecr"], fields["detail"], fields["lcore"], 0, fields["generation"], fields["issued"])


def tag(secret, header, client, client_port, vip, vip_port):
    key = hkdf_sha256(SECRETS[secret], b"baton v1 tag", 16)
    tuple_bytes = canonical(client) + canonical(vip) + struct.pack("!HH", client_port, vip_port) + b"\0" * 4
    return struct.pack("!Q", siphash24(key, header + tuple_bytes))


def icmp_error(kind, code, rest, quoted):
    """An ICMP error (RFC 792): its second word is what the type makes of it."""
    without = struct.pack("!BBHI", kind, code, 0, rest) + quoted
    return without[:2] + struct.pack("!H", checksum(without)) + without[4:]


def clients_packet(fields, client_port, data, seq_offset):
    options = b""
    if fields["timestamps"]:
        options = b"\x01\x01\x08\x0a" + struct.pack("!II", fields["tsval"], fields["tsecr"])
    segment = tcp(CLIENT, VIP, client_port, 80, (fields["base_seq"] + seq_offset) % 2**32, fields["base_ack"],
                  "PA" if data else "A", options=options, data=data)
    return ipv4(CLIENT, VIP, 6, segment)


def message(name, fields, *, secret=0, client_port=33333, data=b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n", seq_offset=0,
            inner=None):
    inner = inner or clients_packet(fields, client_port, data, seq_offset)
    if fields["type"] == "gone":
        inner = inner[:QUOTED_BYTES]
    header = covered(fields)
    datagram = udp(0xD1C3, HANDOFF_PORT, header + tag(secret, header, CLIENT, client_port, VIP, 80) + inner)
    if fields["type"] in TO_SWITCH:
        frame = ethernet(BACKEND_MAC, SWITCH_MAC, ipv4(BACKEND, SWITCH, 17, datagram))
    else:
        frame = ethernet(SWITCH_MAC, BACKEND_MAC, ipv4(SWITCH, BACKEND, 17, datagram))
    return dict(name=name, secret=secret, client=CLIENT, client_port=client_port, vip=VIP, vip_port=80,
                header=fields, inner_bytes=len(inner), frame=frame.hex())


def messages():
    yield message("the first data of a usual client", USUAL)
    yield message("a client that negotiates nothing", BARE)
    yield message("ECN, largest shifts, numbers about to wrap, another key",
                  dict(USUAL, wscale=[14, 14], ecn=True, mss=1300, key_id=255, lcore=255, base_seq=0xFFFFFFFF,
                       base_ack=0, tsval=0xFFFFFFFF, tsecr=0), secret=1, client_port=65535)
    yield message("shifts of zero are not the same as none", dict(BARE, wscale=[0, 0], mss=1440))
    yield message("largest generation and time", dict(BARE, generation=2**64 - 1, issued=2**64 - 1))
    yield message("a later segment of the same client", USUAL, data=b"more", seq_offset=28)
    yield message("an acknowledgment of a confirmed flow behind a router", dict(USUAL, type="forward"), data=b"")
    for number, why in enumerate(("no listener", "accept queue full", "not ready", "kernel refused", "records full",
                                  "occupied"), 1):
        yield message(f"refused: {why}", dict(USUAL, type="refused", detail=number, lcore=2))
    yield message("gone: old generation", dict(USUAL, type="gone", detail=7, generation=NOW + 5))
    yield message("gone: no socket", dict(USUAL, type="gone", detail=8, generation=0), data=b"")
    yield message("gone: no socket, of a packet without a tunnel",
                  dict(BARE, type="gone", detail=8, mss=0, generation=0, lcore=LCORE_ANY), data=b"")
    for kind in ("kill", "killed", "busy"):
        yield message(f"type {kind}, whose number is taken", dict(BARE, type=kind), data=b"")
    question = clients_packet(BARE, 33333, b"", 0)
    yield message("who has the flow of this packet?", dict(BARE, type="who-has", generation=0, lcore=3), inner=question)
    for name, state in STATES.items():
        yield message(f"mine: {name}", dict(BARE, type="mine", detail=state, lcore=3, base_seq=0x8899AABB + 28,
                                            base_ack=0x01020304 + 1000), inner=question)
    # A router says that 1280 bytes would fit (RFC 1191, section 4), and quotes 28 bytes of the backend's packet.
    quoted = ipv4(VIP, CLIENT, 6, tcp(VIP, CLIENT, 80, 33333, 0x01020304, 0x8899AABB + 28, "A", data=b"x" * 1360))[:28]
    yield message("an ICMP error for the flow it quotes", dict(BARE, type="icmp"),
                  inner=ipv4(ROUTER, VIP, 1, icmp_error(3, 4, 1280, quoted)))


def tags():
    header = covered(USUAL)
    for secret, client, client_port, vip, vip_port in (
            (0, CLIENT, 33333, VIP, 80), (1, CLIENT, 33333, VIP, 80), (0, CLIENT, 80, VIP, 33333),
            (0, VIP, 33333, CLIENT, 80), (0, "2001:db8::50", 33333, "2001:db8::100", 80),
            (0, "::ffff:10.50.0.11", 33333, VIP, 80)):
        yield dict(secret=secret, client=client, client_port=client_port, vip=vip, vip_port=vip_port,
                   covered=header.hex(), tag=tag(secret, header, client, client_port, vip, vip_port).hex())


def document():
    for length, output in enumerate(SIPHASH):
        computed = siphash24(bytes(range(16)), bytes(range(length)))
        assert computed == int.from_bytes(bytes.fromhex(output), "little"), f"SipHash of {length} bytes"
    return dict(
        note="Made by generate.py, an implementation of its own; do not edit.",
        siphash=[dict(length=length, output=output) for length, output in enumerate(SIPHASH)],
        keys=[dict(secret=secret.hex(), tag_key=hkdf_sha256(secret, b"baton v1 tag", 16).hex(),
                   cookie_key=hkdf_sha256(secret, b"baton v1 syn cookie", 16).hex(),
                   control_psk=hkdf_sha256(secret, b"baton v1 control", 32).hex()) for secret in SECRETS],
        messages=list(messages()), tags=list(tags()))


def write_pcap(path, content):
    """Writes the frames, a microsecond apart (pcap, link type Ethernet)."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, one in enumerate(content["messages"]):
            frame = bytes.fromhex(one["frame"])
            file.write(struct.pack("<IIII", NOW // 10**6, number, len(frame), len(frame)) + frame)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with handoff.json; exit status 1 if it differs")
    parser.add_argument("--pcap", metavar="FILE", help="write the frames to a capture file")
    options = parser.parse_args()
    content = document()
    text = json.dumps(content, indent=1) + "\n"
    if options.pcap:
        write_pcap(options.pcap, content)
    elif options.check:
        if (HERE / "handoff.json").read_text() != text:
            sys.exit("generate.py: handoff.json is not what this script makes")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
