"""Request heads in several segments reach the server as they were sent, once: cut, mixed up or lost on their way."""

import hashlib
import random
import secrets
import socket
import statistics
import threading
import time

import pytest
from conftest import ROUTED_BACKEND
from helpers import (ask, counters, cut_off, eventually, flow_of, get, grown, log_mark, log_since, logged, read_answer,
                     request)
from rawclient import RawClient

from lab_lib.content import sha256_of
from lab_lib.topology import VIP

BACKEND = "backend1"
# What the switch promises for the first piece of a head, and what this machine may add: lcore, router and test share
# two CPUs, so that any of them may wait some time slices for its turn. Most do not: the median must be near the promise.
ACK_DELAY_S, MEDIAN_ADDS_S = 0.040, 0.010
# A client's kernel repeats after 200 ms at the earliest: that late, no acknowledgment is of use.
RETRANSMISSION_S = 0.200
ROUNDS = 9
LOST_FOR_S = 1.0


@pytest.fixture
def raw(lab):
    client = RawClient(lab)
    yield client
    client.close()


def _unsplit(connection):
    """Let every send be a segment of its own, at once."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _told(answer):
    """The id a /db/ request carried, as the server read it."""
    assert answer.status == 200, answer
    return answer.body.decode().rsplit('"id":"', 1)[1].removesuffix('"}\n')


def _refusals(counted):
    """What of the counters says that something of a head was not taken."""
    return [name for name in counted if name.startswith(("errors_", "drop_head", "drop_hold", "drop_request"))]


def _only_log_line(lab, backend, mark, port, wanted):
    """The server has logged one request of a client's port, and does not log a second one."""
    logged(lab, backend, mark, lambda e: e["port"] == port)
    time.sleep(0.3)
    entries = [e for e in log_since(lab, backend, mark) if e["port"] == port]
    assert [e["request"] for e in entries] == [wanted], entries


# --- as clients send them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [BACKEND, ROUTED_BACKEND])
@pytest.mark.parametrize("fields", [1, 3])
def test_a_large_head(lab, backend, fields):
    """About 15 and 30 KB: as much as nginx takes by default, four buffers of 8 KB with a line or more in each."""
    before, name = counters(lab), secrets.token_hex(3600)
    cookies = [f"Cookie: c{number}={secrets.token_hex(3700)}" for number in range(fields)]
    answer = get(lab, f"/b/{backend}/db/x?id={name}", headers=cookies)
    assert (_told(answer), answer.backend) == (name, backend)
    counted = grown(lab, before)
    assert counted["handoffs"] == 1 and counted["heads_held"] >= 2 and counted["head_acks"] >= 1, counted
    assert not _refusals(counted), counted


def test_a_head_with_an_8_kb_cookie(lab):
    cookie = f"Cookie: session={secrets.token_hex(4096)}"
    for path, backend in (("/files/4k", "backend1"), (f"/b/{ROUTED_BACKEND}/files/4k", ROUTED_BACKEND)):
        answer = get(lab, path, headers=[cookie])
        assert answer.status == 200 and answer.backend == backend
        assert answer.sha256 == sha256_of(lab.content_dir / "4k")


def test_a_head_sent_byte_by_byte(lab):
    before = counters(lab)
    with _unsplit(lab.connect("client1")) as connection:
        data = request("/who", close=True)
        for byte in data:
            connection.send(bytes([byte]))
        assert read_answer(connection).status == 200
    assert 2 < grown(lab, before)["heads_held"] < len(data), "several segments, none of them twice"


def test_a_head_typed_by_hand(lab):
    """A byte every 300 ms: each is acknowledged before the next, none is sent again, and the answer comes at once."""
    data, before = b"GET /db/x?id=7 HTTP/1.0\r\nA: b\r\n\r\n", counters(lab)
    with _unsplit(lab.connect("client1")) as connection:
        for byte in data:
            connection.send(bytes([byte]))
            time.sleep(0.3)
        # A switch that acknowledged with a clock of its own would have the client's kernel drop the server's segments.
        answered = time.monotonic()
        assert _told(read_answer(connection)) == "7"
        assert time.monotonic() - answered < 0.1
    counted = grown(lab, before)
    assert (counted["heads_held"], counted["head_acks"]) == (len(data) - 1, len(data) - 1), counted
    assert "head_repeats" not in counted, counted


def test_a_head_that_is_whole_in_time_is_left_to_the_client(lab, raw):
    """Two pieces within 40 ms are not acknowledged by the switch but by the server, as anything else."""
    data, before = request("/db/x?id=7", close=True), counters(lab)
    connection = raw.connect()
    connection.send(data[:30])
    connection.send(data[30:], at=30)
    assert b'"id":"7"' in connection.read().data
    assert "head_acks" not in grown(lab, before)


# --- acknowledgments ---------------------------------------------------------------------------------------


def _seconds_until_acknowledged(connection, data, at, piece):
    """Send a piece of `data`; how long its acknowledgment took."""
    sent = time.monotonic()
    connection.send(data[at:at + piece], at=at)
    segment = connection.wait_for(lambda s: s.flags == "A" and s.ack == at + piece and not s.data, 1)
    assert segment is not None, f"no acknowledgment of bytes {at} to {at + piece}"
    assert segment.at == 0, "nobody has sent anything yet"
    return segment.time - sent


def test_pieces_are_acknowledged_in_time(lab, raw):
    """The first within 40 ms, every further one at once."""
    data, first, second, third = request("/db/x?id=7", close=True), [], [], []
    for _ in range(ROUNDS):
        connection = raw.connect()
        first.append(_seconds_until_acknowledged(connection, data, 0, 10))
        second.append(_seconds_until_acknowledged(connection, data, 10, 10))
        third.append(_seconds_until_acknowledged(connection, data, 20, 10))
        connection.send(data[30:], at=30)
        assert b'"id":"7"' in connection.read().data
    assert statistics.median(first) < ACK_DELAY_S + MEDIAN_ADDS_S, first
    assert statistics.median(second) < MEDIAN_ADDS_S and statistics.median(third) < MEDIAN_ADDS_S, (second, third)
    assert max(first + second + third) < RETRANSMISSION_S, (first, second, third)


def test_keepalive_probes_are_answered(lab):
    """A client that stops in the middle of its head asks whether anybody is there: two unanswered probes would end it."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
               (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)]
    data, before = request("/db/x?id=7", close=True), counters(lab)
    with _unsplit(lab.connect("client1", options=options)) as connection:
        connection.send(data[:20])
        time.sleep(4.5)
        assert flow_of(lab, connection)["state"] == "holding"
        probes = grown(lab, before)
        connection.send(data[20:])
        assert _told(read_answer(connection)) == "7"
    assert probes["head_acks"] >= 3 and probes["heads_held"] == 1, "one for the piece, the others for probes"


# --- mixed up ----------------------------------------------------------------------------------------------


def _check_mixed(lab, raw, pieces, target):
    """Send pieces [(offset, bytes)] of a head; the server reads it once, as it was meant."""
    mark, before = log_mark(lab, BACKEND), counters(lab)
    connection = raw.connect()
    for at, piece in pieces:
        connection.send(piece, at=at)
    answer = connection.read().data
    assert f'"id":"{target.partition("id=")[2]}"'.encode() in answer, answer
    _only_log_line(lab, BACKEND, mark, connection.port, f"GET {target} HTTP/1.1")
    counted = grown(lab, before)
    assert counted["handoffs"] == 1 and not _refusals(counted), counted


@pytest.mark.parametrize("seed", range(4))
def test_segments_out_of_order(lab, raw, seed):
    chance = random.Random(seed)
    target = f"/b/{BACKEND}/db/x?id={secrets.token_hex(1500)}"
    data = request(target, close=True)
    pieces = [(at, data[at:at + 250]) for at in range(0, len(data), 250)]
    rest = pieces[1:]
    chance.shuffle(rest)
    _check_mixed(lab, raw, [pieces[0], *rest], target)


@pytest.mark.parametrize("seed", range(4))
def test_segments_that_overlap_and_repeat(lab, raw, seed):
    """Each byte comes at least twice, in pieces of other sizes."""
    chance = random.Random(seed)
    target = f"/b/{BACKEND}/db/x?id={secrets.token_hex(1500)}"
    data = request(target, close=True)
    pieces = [(at, data[at:at + 250]) for at in range(0, len(data) - 250, 250)]
    pieces += [(at, data[at:at + 170]) for at in range(0, len(data) - 250, 170)]
    chance.shuffle(pieces)
    # The end comes last: with it the head is whole, and what comes later is the server's.
    _check_mixed(lab, raw, [(0, data[:100]), *pieces, (len(data) - 400, data[-400:])], target)


def test_what_comes_again_after_the_handoff_changes_nothing(lab, raw):
    """Every piece of a head once more, when the server has answered."""
    target = f"/b/{BACKEND}/db/x?id={secrets.token_hex(500)}"
    data, mark = request(target), log_mark(lab, BACKEND)
    connection = raw.connect()
    connection.send(data[:300])
    connection.send(data[300:], at=300)
    assert connection.read(until=b'"}\n').data
    for at in (0, 300):
        connection.send(data[at:at + 300], at=at)
    _only_log_line(lab, BACKEND, mark, connection.port, f"GET {target} HTTP/1.1")


def test_the_second_segment_comes_first(lab, raw):
    """The connection's first two segments change places on the way: that costs the client no more than a retransmission."""
    target = f"/b/{BACKEND}/db/x?id=7"
    data, mark = request(target, close=True), log_mark(lab, BACKEND)
    connection = raw.connect()
    connection.send(data[20:], at=20)
    connection.send(data[:20])
    assert connection.wait_for(lambda s: s.flags == "A" and s.ack in (20, len(data)), 0.2), "the first piece is taken"
    connection.send(data[20:], at=20)
    assert b'"id":"7"' in connection.read().data
    _only_log_line(lab, BACKEND, mark, connection.port, f"GET {target} HTTP/1.1")


def test_the_first_segment_is_lost(lab, raw):
    """What follows it arrives alone; the first comes again after a second, as from a client that is far away."""
    data = request("/db/x?id=7", close=True)
    connection = raw.connect()
    connection.send(data[20:], at=20)
    assert not connection.segments(1.0), "nobody answers, least of all with a RST"
    connection.send(data[:20])
    assert connection.wait_for(lambda s: s.flags == "A" and s.ack in (20, len(data)), 0.2)
    connection.send(data[20:], at=20)
    assert b'"id":"7"' in connection.read().data


# --- lost behind the switch --------------------------------------------------------------------------------


def _cut_for(lab, seconds):
    """Cut the backend off now, and connect it again after a time; returns the thread to wait for."""
    cut, healed = threading.Event(), threading.Event()

    def work():
        with cut_off(lab, BACKEND):
            cut.set()
            time.sleep(seconds)
        healed.set()
    thread = threading.Thread(target=work)
    thread.start()
    assert cut.wait(5)
    return thread


def _check_lost(lab, data, wanted):
    """Send a head in two pieces whose way to the server is cut; returns the answer.

    The client's kernel repeats nothing of what the switch acknowledged: the switch must.
    """
    mark, before = log_mark(lab, BACKEND), counters(lab)
    with _unsplit(lab.connect("client1")) as connection:
        port = connection.getsockname()[1]
        connection.send(data[:100])
        eventually(lambda: grown(lab, before).get("head_acks"), timeout_s=1, what="the first piece is acknowledged")
        thread = _cut_for(lab, LOST_FOR_S)
        began = time.monotonic()
        try:
            connection.sendall(data[100:])
            answer = read_answer(connection)
        finally:
            thread.join()
        took = time.monotonic() - began
    # It was lost, and not for longer than the pause between two repetitions.
    assert LOST_FOR_S * 0.9 < took < LOST_FOR_S + 2, took
    _only_log_line(lab, BACKEND, mark, port, wanted)
    counted = grown(lab, before)
    assert counted["held_repeated"] >= 2 and counted["handoffs"] == 1, counted
    assert "heads_lost" not in counted, counted
    return answer


@pytest.mark.parametrize("name_bytes, cookie_bytes", [(6000, ()), (10, (8192,)), (7200, (7400,) * 3)],
                         ids=["6 KB", "8 KB cookie", "30 KB"])
def test_an_acknowledged_head_is_lost_behind_the_switch(lab, name_bytes, cookie_bytes):
    target = f"/b/{BACKEND}/db/x?id={secrets.token_hex(name_bytes // 2)}"
    cookies = [f"Cookie: c{number}={secrets.token_hex(size // 2)}" for number, size in enumerate(cookie_bytes)]
    data = request(target, headers=cookies)
    assert len(data) > name_bytes + sum(cookie_bytes)
    assert _told(_check_lost(lab, data, f"GET {target} HTTP/1.1")) == target.partition("id=")[2]


@pytest.mark.parametrize("size", [1, 3000, 300_000])
def test_an_acknowledged_head_of_a_post_is_lost_behind_the_switch(lab, size):
    """The body's first bytes come with the head's last and are the switch's to deliver, too."""
    body, cookie = secrets.token_bytes(size), secrets.token_hex(2000)
    target = f"/b/{BACKEND}/upload"
    head = f"POST {target} HTTP/1.1\r\nHost: {VIP}\r\nCookie: {cookie}\r\nContent-Length: {size}\r\n\r\n".encode()
    answer = _check_lost(lab, head + body, f"POST {target} HTTP/1.1")
    assert answer.headers["x-upload-bytes"] == str(size)
    stored = lab.backend_dir(BACKEND) / "uploads" / answer.headers["x-upload-id"]
    assert sha256_of(stored) == hashlib.sha256(body).hexdigest()
    stored.unlink()


def _quiet(lab):
    """Wait until the switch asks nobody anything; returns the counters then."""
    def settled():
        before = counters(lab)
        time.sleep(0.5)
        return before if "questions_sent" not in grown(lab, before) else None
    return eventually(settled, timeout_s=20, what="no more questions")


@pytest.mark.parametrize("backend", [BACKEND, ROUTED_BACKEND])
def test_what_the_server_has_is_not_sent_again(lab, backend):
    """One question, answered: then the switch is rid of the head, and the connection goes on."""
    before = _quiet(lab)
    with _unsplit(lab.connect("client1")) as connection:
        data = request(f"/b/{backend}/db/x?id=7")
        connection.send(data[:20])
        time.sleep(0.1)
        connection.send(data[20:])
        assert _told(read_answer(connection)) == "7"
        time.sleep(1.5)  # the second question would come after 0.2 s, the fourth after 1.4
        counted = grown(lab, before)
        assert ask(connection, f"/b/{backend}/who").backend == backend
    assert counted["questions_sent"] == 1 and counted["head_acks"] == 1, counted
    assert "held_repeated" not in counted and "drop_answer_unexpected" not in counted, counted
