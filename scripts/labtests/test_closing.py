"""How connections end: half, late, hard or unheard; and how they live through silence."""

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import CLOSING_TIMEOUT_S, ESTABLISHED_TIMEOUT_S
from helpers import (ask, backend_of, counters, eventually, flow_of, log_mark, log_since, logged, read_answer, request,
                     resets_swallowed, setting, socket_of, sockets)
from plainserver import BODY_BYTES, RESET, THINKING_S, body, in_place_of_nginx
from test_arp import another_mac

from lab_lib.content import sha256_of
from lab_lib.topology import VIP, VIP_PORT

CLIENT = "client1"
# On the second and the last, a server of our own; the third gets another network card; the last two are routed.
ON_LINK, PLAIN, MOVED, ROUTED, PLAIN_ROUTED = "backend1", "backend2", "backend3", "backend4", "backend5"
BACKENDS = [ON_LINK, ROUTED]
PLAIN_BACKENDS = [PLAIN, PLAIN_ROUTED]
# Longer than the switch remembers a silent flow.
QUIET_S = ESTABLISHED_TIMEOUT_S + 3
ZERO_WINDOW_S = 20
# The switch asks for a next hop it knows every 10 s; clients repeat after 0.2, 0.6, 1.4, 3, 6.2 and 12.6 s.
FOUND_AGAIN_S = 20
TCP_KEEPALIVE_S = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
                   (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)]


def _half_closed(lab, backend, path):
    """Ask and say that this was all; returns whether everything came, after how long, and what came behind it."""
    with lab.connect(CLIENT) as connection:
        connection.sendall(request(f"/b/{backend}/{path}"))
        connection.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        answer = read_answer(connection)
        return answer.body == body(), time.monotonic() - began, connection.recv(1)


def _unread_download(lab, backend):
    """A client that reads nothing for 20 s; returns what the server's socket waited for, and whether all came."""
    with lab.connect(CLIENT) as connection:
        connection.sendall(request(f"/b/{backend}/files/10m"))
        time.sleep(ZERO_WINDOW_S)
        info = socket_of(lab, backend, connection)["info"]
        return info, read_answer(connection).sha256 == sha256_of(lab.content_dir / "10m")


def _idle(lab, backend, options):
    """A connection on which nobody says anything for a while; returns it, and its flow then."""
    connection = lab.connect(CLIENT, options=options)
    ask(connection, f"/b/{backend}/who")
    time.sleep(QUIET_S)
    return connection, flow_of(lab, connection)


def _unspoken_move(lab):
    """A backend gets another network card and says nothing; a request is under way. Returns what came of it."""
    mark, before = log_mark(lab, MOVED), counters(lab)["arp_learned"]
    with lab.connect(CLIENT, timeout_s=FOUND_AGAIN_S) as connection:
        ask(connection, f"/b/{MOVED}/who")
        with another_mac(lab, MOVED, "data0", "02:bb:00:00:00:02", announces=False):
            began = time.monotonic()
            connection.sendall(request(f"/b/{MOVED}/files/1k"))
            answer, took = read_answer(connection), time.monotonic() - began
            learned = counters(lab)["arp_learned"] - before
            logged(lab, MOVED, mark, lambda e: "/files/1k" in e["request"])
    runs = [e for e in log_since(lab, MOVED, mark) if "/files/1k" in e["request"]]
    return answer.backend, took, learned, len(runs)


@pytest.fixture(scope="module")
def stories(short_lab):
    """What takes its time begins first and is looked at last: {name: future}."""
    with in_place_of_nginx(short_lab, PLAIN), in_place_of_nginx(short_lab, PLAIN_ROUTED), ThreadPoolExecutor(9) as pool:
        begun = {}
        for backend in PLAIN_BACKENDS:
            eventually(lambda: backend_of(short_lab, backend)["usable"], timeout_s=5,  # noqa: B023
                       what="the servers of our own are well")
            begun["half-closed", backend] = pool.submit(_half_closed, short_lab, backend, "think")
        begun["moved"] = pool.submit(_unspoken_move, short_lab)
        for backend in BACKENDS:
            begun["unread", backend] = pool.submit(_unread_download, short_lab, backend)
            begun["kept alive", backend] = pool.submit(_idle, short_lab, backend, TCP_KEEPALIVE_S)
            begun["silent", backend] = pool.submit(_idle, short_lab, backend, [])
        yield begun


@pytest.fixture
def closing_lab(short_lab, stories):
    """The lab of short timers, in which the long stories have begun."""
    return short_lab


def _is_over(lab, backend, connection):
    """Wait until the backend has nothing left of a connection but at most its TIME_WAIT, and the switch nothing."""
    address, port = connection.getsockname()

    def left():
        return [s for s in sockets(lab, backend) if s["peer"] == f"{address}:{port}" and s["state"] != "TIME-WAIT"]
    eventually(lambda: not left(), timeout_s=2, what=lambda: f"{backend} has {left()}")
    eventually(lambda: flow_of(lab, connection) is None, timeout_s=CLOSING_TIMEOUT_S + 2, what="the flow ends")


@pytest.mark.parametrize("backend", BACKENDS)
def test_fin_with_the_request(closing_lab, backend):
    """A client that knows it will ask once: request and FIN in one segment.

    A small file, as nginx takes a FIN for the end of all interest as soon as it has to wait for the client.
    """
    with closing_lab.connect(CLIENT) as connection, \
            closing_lab.socket(CLIENT, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap:
        tap.bind(("data0", 3))
        tap.settimeout(2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sendall(request(f"/b/{backend}/files/4k"))
        connection.shutdown(socket.SHUT_WR)
        port = struct.pack("!H", connection.getsockname()[1])
        while (frame := tap.recv(2048))[34:36] != port or b"GET " not in frame:
            pass
        assert frame[47] & 1, "the kernel sent the FIN with the request"
        answer = read_answer(connection)
        assert answer.backend == backend and answer.sha256 == sha256_of(closing_lab.content_dir / "4k")
        assert connection.recv(1) == b"", "the server closes, too"
        _is_over(closing_lab, backend, connection)


@pytest.mark.parametrize("backend", PLAIN_BACKENDS)
def test_half_close_in_mid_download(closing_lab, backend):
    with closing_lab.connect(CLIENT) as connection:
        connection.sendall(request(f"/b/{backend}/10m"))
        first = connection.recv(1000, socket.MSG_PEEK)
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda: flow_of(closing_lab, connection)["state"] == "closing", timeout_s=2, what="the FIN is seen")
        answer = read_answer(connection)
        assert first and answer.body == body() and connection.recv(1) == b""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("version, close", [("1.1", True), ("1.0", False)])
def test_server_closes_first_and_the_client_later(closing_lab, backend, version, close):
    with closing_lab.connect(CLIENT) as connection:
        answer = ask(connection, f"/b/{backend}/files/64k", close=close, version=version)
        assert answer.sha256 == sha256_of(closing_lab.content_dir / "64k")
        assert connection.recv(1) == b""
        eventually(lambda: socket_of(closing_lab, backend, connection)["state"] == "FIN-WAIT-2", timeout_s=1,
                   what="the server has closed and knows that the client has not")
        connection.shutdown(socket.SHUT_WR)
        eventually(lambda: socket_of(closing_lab, backend, connection)["state"] == "TIME-WAIT", timeout_s=2,
                   what="the server has seen the client's FIN")
        assert not closing_lab.run(CLIENT, ["ss", "-Htan", "sport", "=", f":{connection.getsockname()[1]}"]).stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_client_resets_in_mid_download(closing_lab, backend):
    with closing_lab.connect(CLIENT) as connection:
        connection.sendall(request(f"/b/{backend}/files/50m"))
        connection.recv(65536)
        assert socket_of(closing_lab, backend, connection)["state"] == "ESTAB"
        end = connection.getsockname()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()
    peer = f"{end[0]}:{end[1]}"
    eventually(lambda: peer not in {s["peer"] for s in sockets(closing_lab, backend)}, timeout_s=2,
               what="the server's socket goes")


@pytest.mark.parametrize("backend", PLAIN_BACKENDS)
def test_server_resets_in_mid_answer(closing_lab, backend):
    with closing_lab.connect(CLIENT) as connection:
        connection.sendall(request(f"/b/{backend}/reset"))
        with pytest.raises(ConnectionResetError):
            while connection.recv(1 << 20):
                pass
        end = connection.getsockname()
    # Its port serves another connection at once, over what the switch still remembers.
    with closing_lab.socket(CLIENT, socket.AF_INET, socket.SOCK_STREAM) as again:
        again.settimeout(2)
        again.bind(end)
        again.connect((VIP, VIP_PORT))
        assert len(ask(again, f"/b/{backend}/again").body) == BODY_BYTES


def _kill_in_silence(lab, backend, connection):
    ask(connection, f"/b/{backend}/who")
    with resets_swallowed(lab, backend):
        lab.run(backend, ["ss", "-Ktn", "src", VIP, "dport", "=", f":{connection.getsockname()[1]}"])


def _time_out_in_fin_wait_2(lab, backend, connection):
    with setting(lab, backend, "net.ipv4.tcp_fin_timeout", 1):
        ask(connection, f"/b/{backend}/who", close=True)
        assert connection.recv(1) == b""
        eventually(lambda: socket_of(lab, backend, connection)["state"] == "FIN-WAIT-2", timeout_s=1, what="FIN-WAIT-2")
        peer = "{}:{}".format(*connection.getsockname())
        eventually(lambda: peer not in {s["peer"] for s in sockets(lab, backend)}, timeout_s=5, what="FIN_WAIT2 ends")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("vanish", [_kill_in_silence, _time_out_in_fin_wait_2])
def test_client_of_a_socket_that_vanished_learns_it_with_its_next_data(closing_lab, backend, vanish):
    with closing_lab.connect(CLIENT) as connection:
        vanish(closing_lab, backend, connection)
        assert not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) and flow_of(closing_lab, connection)
        before = counters(closing_lab)
        connection.sendall(request(f"/b/{backend}/who"))
        eventually(lambda: connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), timeout_s=1,
                   what=lambda: f"a RST; {flow_of(closing_lab, connection)}")
        after = counters(closing_lab)
        flow = flow_of(closing_lab, connection)  # stays for a while: the client may not have believed the first RST
        assert after["flows_gone"] == before["flows_gone"] + 1 and flow["state"] == "closing", flow


# --- the stories that began with the first test of this file --------------------------------------------------

@pytest.mark.parametrize("backend", PLAIN_BACKENDS)
def test_half_closed_client_of_a_server_that_takes_its_time(stories, backend):
    """So long that the switch forgets the closing flow meanwhile."""
    is_whole, took, rest = stories["half-closed", backend].result(timeout=30)
    assert is_whole and rest == b"" and took > THINKING_S > CLOSING_TIMEOUT_S, took


@pytest.mark.parametrize("backend", BACKENDS)
def test_keepalive_probes_keep_a_flow(closing_lab, stories, backend):
    """Its neighbour, as idle and without probes, is forgotten, and found again when it speaks."""
    (alive, flow), (silent, no_flow) = (stories[kind, backend].result(timeout=30) for kind in ("kept alive", "silent"))
    with alive, silent:
        assert flow is not None and no_flow is None, (flow, no_flow)
        assert socket_of(closing_lab, backend, alive)["state"] == "ESTAB"
        assert ask(alive, f"/b/{backend}/who").backend == backend
        before = counters(closing_lab)["flows_adopted"]
        assert ask(silent, f"/b/{backend}/who").backend == backend
        assert counters(closing_lab)["flows_adopted"] == before + 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_window_of_zero_for_20_s(stories, backend):
    info, is_whole = stories["unread", backend].result(timeout=60)
    assert "persist" in info, f"the server waits for the window: {info}"
    assert is_whole


def test_a_backend_that_moved_without_a_word(stories):
    """Only the switch's own question finds its new hardware address; who asked meanwhile is served then, and once."""
    backend, took, learned, runs = stories["moved"].result(timeout=2 * FOUND_AGAIN_S)
    print(f"served again after {took:.1f} s")
    assert (backend, learned, runs) == (MOVED, 1, 1) and took < FOUND_AGAIN_S
