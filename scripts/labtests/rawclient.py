"""A TCP client made segment by segment: it sends what no kernel would, and answers only when told."""

import itertools
import socket
import struct
import time
from dataclasses import dataclass

from packets import ethernet, ipv4, tcp

from lab_lib.topology import VIP, VIP_PORT, mac_of

# No host has this address, so that no kernel answers or resets what is sent to it.
ADDRESS = "10.50.0.201"
ROUTER_MAC = mac_of("10.50.0.254")
ISN = 0x0BAD_F00D
MSS_BYTES = 1376  # what the switch announces at an MTU of 1500
_SYN_OPTIONS = bytes([2, 4, 5, 0xB4, 1, 3, 3, 7])  # MSS 1460, window scale 7
_FLAGS = {1: "F", 2: "S", 4: "R", 8: "P", 16: "A"}
_ports = itertools.count(30_000)


@dataclass(frozen=True)
class Segment:
    """A segment that came; `at` and `ack` count from the first byte of each side's stream."""

    time: float
    at: int
    ack: int
    flags: str
    data: bytes


@dataclass(frozen=True)
class End:
    """What a connection brought until it ended: "FIN", "RST", or "" if it did not end in time."""

    data: bytes
    by: str


class RawClient:
    """Somebody at an address of the clients' network, on the cable of `host`."""

    def __init__(self, lab, host="client1"):
        self.lab, self.host, self._open = lab, host, []
        self._mac = mac_of(lab.address_of(host))
        lab.run("router", ["ip", "neighbor", "replace", ADDRESS, "lladdr", self._mac, "dev", "clients0", "nud",
                           "permanent"])

    def connect(self):
        """A connection whose handshake is done."""
        connection = RawConnection(self.lab, self.host, self._mac)
        self._open.append(connection)
        connection.shake_hands()
        return connection

    def close(self):
        for connection in self._open:
            connection.close()
        self.lab.run("router", ["ip", "neighbor", "delete", ADDRESS, "dev", "clients0"])


class RawConnection:
    """One connection. Offsets count from its first byte of data."""

    def __init__(self, lab, host, mac):
        self._mac = mac
        self.port = next(_ports)
        self.acked = 0  # how much of the other side's stream the next segment acknowledges
        self.sent = 0  # the furthest byte sent, FIN included
        self._socket = lab.socket(host, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self._socket.bind(("data0", 0x0800))
        self._theirs = 0

    def getsockname(self):
        """As a socket's: helpers.flow_of takes either."""
        return ADDRESS, self.port

    def shake_hands(self):
        self._emit(ISN, 0, "S", options=_SYN_OPTIONS)
        answer = self._next(time.monotonic() + 2)
        assert answer is not None and answer.flags == "SA", answer
        self._theirs = (answer.at + 1) & 0xFFFFFFFF  # as the offset of a SYN with their ISN still 0
        self.send(flags="A")

    def send(self, data=b"", *, at=0, flags="PA", ack=None, damaged=False, urgent=0):
        """Send one segment, in packets of their own however close together."""
        self._emit(ISN + 1 + at, self._theirs + (self.acked if ack is None else ack), flags, data=data, damaged=damaged,
                   urgent=urgent)
        self.sent = max(self.sent, at + len(data) + ("F" in flags))

    def send_all(self, data, *, at=0, piece_bytes=MSS_BYTES):
        """Send data in as many segments as it needs."""
        for offset in range(0, len(data), piece_bytes):
            self.send(data[offset:offset + piece_bytes], at=at + offset)

    def segment(self, data, *, at=0, flags="PA"):
        """The segment `send` would send, without its IP header, for those who send it in their own way."""
        return self._segment(ISN + 1 + at, self._theirs + self.acked, flags, data=data)

    def _segment(self, seq, ack, flags, **fields):
        return tcp(ADDRESS, VIP, self.port, VIP_PORT, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags, **fields)

    def _emit(self, seq, ack, flags, *, options=b"", data=b"", damaged=False, urgent=0):
        segment = bytearray(self._segment(seq, ack, flags, options=options, data=data, urgent=urgent))
        if damaged:
            segment[16] ^= 0x55  # the checksum itself: everything else stays readable
        self._socket.send(ethernet(self._mac, ROUTER_MAC, ipv4(ADDRESS, VIP, 6, bytes(segment))))

    def _next(self, deadline):
        """The next segment that comes for this connection, or None."""
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                frame, sender = self._socket.recvfrom(1 << 17)
            except TimeoutError:
                return None
            came = time.monotonic()
            if sender[2] == socket.PACKET_OUTGOING or frame[23] != 6 or \
                    frame[26:34] != socket.inet_aton(VIP) + socket.inet_aton(ADDRESS) or \
                    frame[34:38] != struct.pack("!HH", VIP_PORT, self.port):
                continue
            reply = frame[34:14 + struct.unpack("!H", frame[16:18])[0]]
            seq, ack = struct.unpack("!II", reply[4:12])
            flags = "".join(letter for bit, letter in _FLAGS.items() if reply[13] & bit)
            return Segment(came, (seq - self._theirs) & 0xFFFFFFFF, (ack - ISN - 1) & 0xFFFFFFFF, flags,
                           reply[(reply[12] >> 4) * 4:])
        return None

    def segments(self, seconds):
        """Everything that comes within a time; nothing is acknowledged."""
        deadline, came = time.monotonic() + seconds, []
        while (segment := self._next(deadline)) is not None:
            came.append(segment)
        return came

    def wait_for(self, wanted, seconds):
        """The first segment that fulfils `wanted`, or None."""
        deadline = time.monotonic() + seconds
        while (segment := self._next(deadline)) is not None:
            if wanted(segment):
                return segment
        return None

    def read(self, seconds=3, *, until=None):
        """Read on as a client does, acknowledging what comes, to the connection's end or that of `until`; returns End."""
        deadline, begin, data = time.monotonic() + seconds, self.acked, b""
        while (segment := self._next(deadline)) is not None:
            if "R" in segment.flags:
                return End(data, "RST")
            known = begin + len(data) - segment.at
            if segment.data and 0 <= known:
                data += segment.data[known:]
            ended = "F" in segment.flags and segment.at + len(segment.data) == begin + len(data)
            if segment.data or ended:
                self.acked = begin + len(data) + ended
                self.send(at=self.sent, flags="A")
            if ended:
                return End(data, "FIN")
            if until is not None and until in data:
                return End(data, "")
        return End(data, "")

    def close(self):
        """Reset what may be left of it on either side; a second time, do nothing."""
        if self._socket.fileno() < 0:
            return
        self.send(at=self.sent, flags="RA")
        self._socket.close()
