"""Packets and handoff headers built byte by byte: a second implementation, written from docs/PROTOCOL.md."""

import hashlib
import hmac
import socket
import struct
import tomllib
from dataclasses import dataclass, replace

HANDOFF_PORT = 7171
HEADER_BYTES = 56
TAGGED_BYTES = 48
HANDOFF = 1
FLAG_WSCALE, FLAG_SACK, FLAG_TIMESTAMPS = 1, 2, 4
_TCP_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}


def checksum(data):
    """The Internet checksum (RFC 1071); 0 over data that contains a right one."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(text):
    return bytes.fromhex(text.replace(":", ""))


def ethernet(source_mac, destination_mac, packet):
    """An Ethernet frame with an IPv4 packet."""
    return _mac(destination_mac) + _mac(source_mac) + b"\x08\x00" + packet


def ipv4(source, destination, protocol, payload):
    """An IPv4 packet without options, not to be fragmented."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def tcp(source, destination, source_port, destination_port, seq, ack, flags, *, options=b"", data=b"", window=64240,
        urgent=0):
    """A TCP segment with a right checksum. `flags`: letters of FSRPAU."""
    bits = sum(_TCP_FLAGS[flag] for flag in flags)
    head = struct.pack("!HHIIBBHHH", source_port, destination_port, seq, ack, (20 + len(options)) // 4 << 4, bits,
                       window, 0, urgent) + options + data
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!BBH", 0, 6, len(head))
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def udp(source_port, destination_port, payload):
    """A UDP datagram without checksum, as IPv4 allows."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


_MASK = (1 << 64) - 1


def siphash24(key, data):
    """SipHash-2-4 (Aumasson and Bernstein, 2012): 16-byte key, 64-bit result."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x, bits):
        return (x << bits | x >> (64 - bits)) & _MASK

    def rounds(count):
        a, b, c, d = v
        for _ in range(count):
            a = (a + b) & _MASK
            c = (c + d) & _MASK
            b, d = rotate(b, 13) ^ a, rotate(d, 16) ^ c
            a = rotate(a, 32)
            c = (c + b) & _MASK
            a = (a + d) & _MASK
            b, d = rotate(b, 17) ^ c, rotate(d, 21) ^ a
            c = rotate(c, 32)
        v[:] = a, b, c, d

    tail = data[len(data) // 8 * 8:]
    words = [w for (w,) in struct.iter_unpack("<Q", data[:len(data) // 8 * 8])]
    words.append(int.from_bytes(tail, "little") | (len(data) & 0xFF) << 56)
    for word in words:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def hkdf_sha256(secret, info, length):
    """HKDF-SHA256 (RFC 5869) without salt."""
    pseudo_random = hmac.digest(b"\0" * 32, secret, hashlib.sha256)
    output, block, number = b"", b"", 1
    while len(output) < length:
        block = hmac.digest(pseudo_random, block + info + bytes([number]), hashlib.sha256)
        output, number = output + block, number + 1
    return output[:length]


@dataclass(frozen=True)
class Key:
    """The first key of a key file."""

    id: int
    tag_key: bytes

    @classmethod
    def read(cls, path):
        with open(path, "rb") as file:
            first = tomllib.load(file)["key"][0]
        return cls(first["id"], hkdf_sha256(bytes.fromhex(first["secret"]), b"baton v1 tag", 16))


@dataclass(frozen=True)
class Tuple:
    """A client's connection to a VIP, IPv4."""

    client: str
    client_port: int
    vip: str
    vip_port: int

    def canonical(self):
        """The 40 bytes the tag covers besides the header."""
        def mapped(text):
            return b"\0" * 10 + b"\xff\xff" + socket.inet_aton(text)
        return mapped(self.client) + mapped(self.vip) + struct.pack("!HH", self.client_port, self.vip_port) + b"\0" * 4


@dataclass(frozen=True)
class Handoff:
    """A handoff message; `bytes_for` writes its header, tagged."""

    base_seq: int
    base_ack: int
    generation: int
    issued: int
    kind: int = HANDOFF
    key_id: int = 1
    flags: int = FLAG_WSCALE | FLAG_SACK
    wscale: int = 0x77
    mss: int = 1460
    tsval: int = 0
    tsecr: int = 0

    def header_for(self, connection, key):
        """The 56 bytes, with the tag for `connection`."""
        covered = struct.pack("!4sBBHBBHIIIIHBBQQ", b"BTON", 1, self.kind, self.flags, self.wscale, self.key_id,
                              self.mss, self.base_seq, self.base_ack, self.tsval, self.tsecr, 0, 0, 0,
                              self.generation, self.issued)
        assert len(covered) == TAGGED_BYTES
        return covered + struct.pack("!Q", siphash24(key.tag_key, covered + connection.canonical()))

    def with_changes(self, **changes):
        return replace(self, **changes)
