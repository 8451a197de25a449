"""Rules on what a ClientHello says, in one piece and in several: the connection is handed over still encrypted."""

import socket
import ssl
import time

import pytest
from dispatching import TLS_NAME, applied, one_each
from helpers import answer_of, counters, grown, request
from test_rules import reached, routed

from lab_lib.topology import TLS_PORT, VIP

NAMES = one_each({"server_name": "a.example"}, {"server_name": "*.a.example"})


def asked(lab, name, *options):
    """Which backend answers curl, whose ClientHello names this server."""
    return reached(lab, "-k", "--resolve", f"{name}:{TLS_PORT}:{VIP}", *options, f"https://{name}/who")


@pytest.mark.parametrize("name, backend", [
    ("a.example", "backend1"), ("A.Example", "backend1"),
    ("www.a.example", "backend2"), ("x.y.A.EXAMPLE", "backend2"),
    ("ba.example", "backend3"), ("a.example.org", "backend3"),
])
def test_server_names_whole_and_by_wildcard(dispatch_lab, name, backend):
    with applied(dispatch_lab, NAMES):
        assert asked(dispatch_lab, name) == backend
        assert routed(dispatch_lab, "--sni", name, "--vip", TLS_NAME) == backend


def test_the_protocol_a_client_offers(dispatch_lab):
    """Who offers h2 beside http/1.1 offers it; the rule on the name comes first."""
    with applied(dispatch_lab, one_each({"server_name": "a.example"}, {"protocol": "h2"})):
        for name, offered, backend in [("a.example", "--http1.1", "backend1"), ("a.example", "--http2", "backend1"),
                                       ("b.example", "--http1.1", "backend3"), ("b.example", "--http2", "backend2")]:
            assert asked(dispatch_lab, name, offered) == backend, (name, offered)
            protocols = ["http/1.1"] if offered == "--http1.1" else ["h2", "http/1.1"]
            question = [word for protocol in protocols for word in ("--alpn", protocol)]
            assert routed(dispatch_lab, "--sni", name, *question, "--vip", TLS_NAME) == backend, (name, offered)


def test_who_names_no_server_matches_no_name(dispatch_lab):
    """An address in the URL is none."""
    with applied(dispatch_lab, NAMES):
        assert reached(dispatch_lab, "-k", f"https://{VIP}/who") == "backend3"
        assert routed(dispatch_lab, "--alpn", "http/1.1", "--vip", TLS_NAME) == "backend3"


def cut(data, count):
    """These bytes in so many pieces, as equal as can be."""
    return [data[len(data) * at // count:len(data) * (at + 1) // count] for at in range(count)]


def records(hello, count):
    """A ClientHello of one record in several (RFC 8446, 5.1), each a piece of its own."""
    assert hello[0] == 22 and int.from_bytes(hello[3:5]) == len(hello) - 5
    return [hello[:3] + len(part).to_bytes(2) + part for part in cut(hello[5:], count)]


PIECES = {
    "in one": lambda hello: [hello],
    "in nine segments": lambda hello: cut(hello, 9),
    "its first byte alone": lambda hello: [hello[:1], hello[1:]],
    "in five records": lambda hello: [b"".join(records(hello, 5))],
    "in five records of a segment each": lambda hello: records(hello, 5),
    "in five records in seven segments": lambda hello: cut(b"".join(records(hello, 5)), 7),
    # The header of a record stands among the bytes of the server name itself.
    "in records of four bytes": lambda hello: [b"".join(records(hello, len(hello) // 4))],
}


@pytest.mark.parametrize("form", PIECES)
def test_a_client_hello_is_read_in_whatever_pieces_it_comes(dispatch_lab, form):
    """And the server gets all of them: it answers the request that follows."""
    lab = dispatch_lab
    with applied(lab, NAMES):
        before = counters(lab)
        for name, backend in [("a.example", "backend1"), ("www.a.example", "backend2"), ("b.example", "backend3")]:
            assert over_pieces(lab, name, PIECES[form]).backend == backend
        pieces = len(PIECES[form](_client(name)[2]))
        # Each but the last waits for the others.
        assert grown(lab, before).get("heads_held", 0) == 3 * (pieces - 1)


def _client(name):
    """A TLS client before its first word: what it reads from, the connection, and its ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return (incoming, outgoing), connection, outgoing.read()


def over_pieces(lab, name, pieces):
    """Ask over TLS, with the ClientHello sent in the pieces that `pieces` makes of it."""
    (incoming, outgoing), connection, hello = _client(name)
    with lab.connect("client1", port=TLS_PORT, options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]) as plain:
        for piece in pieces(hello):
            plain.sendall(piece)
            time.sleep(0.005)  # so that no two leave in one segment

        def done(step):
            """Take one step of the connection to its end, with all that goes to and fro meanwhile."""
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    received = plain.recv(65536)
                    incoming.write(received) if received else incoming.write_eof()
        done(connection.do_handshake)
        done(lambda: connection.write(request("/who", close=True)))
        plain.sendall(outgoing.read())
        data = b""
        while b"\r\n\r\n" not in data:
            data += done(lambda: connection.read(65536))
    return answer_of(data)
