#!/usr/bin/python3
"""Makes hellos.json: ClientHellos of real clients and of the RFCs, and what tshark reads in them. See README.md.

Capturing needs openssl and gnutls-bin, and gives other bytes each time; --check needs tshark alone.
"""

import argparse
import json
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "hellos.json"

# RFC 8448, section 3, {client} send handshake record.
RFC_8448 = """16030100c4 010000c0 0303 cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7 00 0006130113031302
              0100 0091 0000000b0009000006736572766572 ff01000100 000a00140012001d0017001800190100010101020103010400230000
              00330026 0024001d002099381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c 002b0003020304
              000d0020001e040305030603020308040805080604010501060102010402050206020202 002d00020101 001c00024001"""


def records(message, size=1 << 14, version=0x0301):
    """Cuts a message into records of at most `size` bytes."""
    pieces = [message[at:at + size] for at in range(0, len(message), size)]
    return b"".join(struct.pack("!BHH", 22, version, len(piece)) + piece for piece in pieces)


def first_flight(command):
    """What a client that connects to a port of the loopback interface sends first."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [word.replace("PORT", str(server.getsockname()[1])) for word in command]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            server.settimeout(10)
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                data = connection.recv(1 << 16)
        finally:
            client.kill()
            client.wait()
            client.stdin.close()
    assert len(data) == 5 + struct.unpack("!H", data[3:5])[0], "one record"
    return data


def python_hello(name, protocols=None, change=None):
    """What Python's ssl module, without any network, says first."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    if change:
        change(context)
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake without a server")


def vector(size, content):
    return len(content).to_bytes(size, "big") + content


def extension(kind, content):
    return struct.pack("!H", kind) + vector(2, content)


def assembled():
    """A hello as a browser's: GREASE (RFC 8701) wherever there may be some, and the outer part of an encrypted hello
    (extension 0xfe0d: outer, a cipher suite, a configuration id, a key, a payload). Random bytes are 0x55."""
    extensions = [
        extension(0x1A1A, b""),
        extension(0, vector(2, b"\0" + vector(2, b"Front.Example"))),
        extension(0xFE0D, b"\0" + struct.pack("!HHB", 1, 1, 7) + vector(2, b"\x55" * 32) + vector(2, b"\x55" * 144)),
        extension(10, vector(2, struct.pack("!HHH", 0x2A2A, 0x001D, 0x0017))),
        extension(16, vector(2, vector(1, b"\x3a\x3a") + vector(1, b"h2") + vector(1, b"http/1.1"))),
        extension(43, vector(1, struct.pack("!HHH", 0xFAFA, 0x0304, 0x0303))),
        extension(51, vector(2, b"\x2a\x2a" + vector(2, b"\0") + b"\0\x1d" + vector(2, b"\x55" * 32))),
        extension(0x4A4A, b"\0"),
    ]
    body = (b"\x03\x03" + b"\x55" * 32 + vector(1, b"\x66" * 32) + vector(2, struct.pack("!HHH", 0x5A5A, 0x1301, 0xC02F))
            + vector(1, b"\0") + vector(2, b"".join(extensions)))
    return b"\x01" + vector(3, body)


def captures():
    """Name, what made it, the bytes."""
    openssl = ["openssl", "s_client", "-connect", "127.0.0.1:PORT"]
    for name, words in (
            ("TLS 1.3 with a name and protocols", ["-servername", "www.example.org", "-alpn", "h2,http/1.1"]),
            ("TLS 1.2 alone", ["-tls1_2", "-servername", "a-b.example.org"]),
            ("no name, no protocols", ["-noservername"]),
            ("a name in capitals", ["-servername", "WWW.Example.ORG", "-no_ticket"]),
            ("padded (RFC 7685)",
             ["-bugs", "-servername", "padded.example", "-alpn", "http/1.1,spdy/3,spdy/2,x-a,x-b,x-c"])):
        yield name, " ".join(openssl + words), first_flight(openssl + words)
    gnutls = ["gnutls-cli", "--port", "PORT", "127.0.0.1", "--insecure"]
    for name, words in (
            ("of GnuTLS", ["--sni-hostname", "gnu.example.org", "--alpn", "h2", "--alpn", "http/1.1"]),
            ("of GnuTLS, TLS 1.1 and 1.2",
             ["--disable-sni", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.2"])):
        yield name, " ".join(gnutls + words), first_flight(gnutls + words)
    def until_1_2(context):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    yield "of Python", "ssl.MemoryBIO", python_hello("python.example.org", ["http/1.1"])
    yield ("of Python, up to TLS 1.2", "ssl.MemoryBIO, maximum_version = TLSv1_2",
           python_hello("python.example.org", None, until_1_2))
    message = python_hello("split.example.org", ["h2", "http/1.1"])[5:]
    yield "in records of 100 bytes", "ssl.MemoryBIO, cut by this script", records(message, 100)
    yield "in records of one byte", "ssl.MemoryBIO, cut by this script", records(message, 1)
    yield "RFC 8448, section 3", "typed in", bytes.fromhex(RFC_8448)
    yield "with GREASE and an encrypted hello", "put together by this script", records(assembled())
    yield "with GREASE, in records of 7 bytes", "put together by this script", records(assembled(), 7)


def capture_file(stream):
    """A capture of a TCP connection's first segments (pcap, raw IPv4), handshake included."""
    packets, seq = [], 1000
    pieces = [stream[at:at + 1400] for at in range(0, len(stream), 1400)]
    for flags, data in [(0x02, b""), *((0x18, piece) for piece in pieces)]:
        tcp = struct.pack("!HHIIBBHHH", 40000, 443, seq, 1, 5 << 4, flags, 65535, 0, 0) + data
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
        packets.append(ip + tcp)
        seq += len(data) or 1
    yield struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for number, packet in enumerate(packets):
        yield struct.pack("<IIII", 1, number, len(packet), len(packet)) + packet


def read(stream):
    """What tshark reads in a hello."""
    fields = ["tls.handshake.extensions_server_name", "tls.handshake.extensions_alpn_str", "tls.handshake.session_id",
              "tls.handshake.version", "tls.handshake.extensions.supported_version"]
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(b"".join(capture_file(stream)))
        file.flush()
        command = ["tshark", "-n", "-r", file.name, "-Y", "tls.handshake.type == 1", "-T", "json"]
        command += [word for field in fields for word in ("-e", field)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(found) == 1, "one hello"
    layers = found[0]["_source"]["layers"]
    name, protocols, session, legacy, versions = (layers.get(field, []) for field in fields)
    return dict(server_name=name[0] if name else None, protocols=protocols, session_id=session[0] if session else "",
                legacy_version=int(legacy[0], 16), versions=[int(version, 16) for version in versions])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true",
                        help="compare hellos.json with what tshark reads; exit status 1 if they differ")
    options = parser.parse_args()
    if options.check:
        for hello in json.loads(FILE.read_text())["hellos"]:
            if {**hello, **read(bytes.fromhex(hello["stream"]))} != hello:
                sys.exit(f"generate.py: tshark reads {hello['name']!r} otherwise than hellos.json says")
        return
    hellos = [dict(name=name, made_by=made_by, stream=stream.hex(), **read(stream))
              for name, made_by, stream in captures()]
    lines = ",\n".join(json.dumps(hello) for hello in hellos)
    print(f'{{"note": "Made by generate.py, read by tshark; do not edit.", "hellos": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
