"""Weather on the cables: it is as bad as asked, and Baton lives through it."""

import hashlib
import secrets
import struct
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import sqrt
from signal import SIGCONT, SIGSTOP
from socket import AF_INET, IPPROTO_TCP, MSG_PEEK, SHUT_WR, SOCK_DGRAM, SOL_SOCKET, TCP_NODELAY

import pytest
from conftest import ROUTED_BACKEND
from helpers import (ask, backend_of, counters, curl, eventually, log_mark, log_since, read_answer, request)
from plainserver import body as plain_body
from plainserver import in_place_of_nginx

from lab_lib.content import sha256_of

WAYS = ("from_host", "to_host")
BACKENDS = ("backend1", "backend2", "backend3", ROUTED_BACKEND)
FILES = ("1k", "4k", "64k", "1m")
FETCHES = 200
UPLOADS = 100
HEADS = 120
HALF_CLOSES = 6
AT_A_TIME = 8
TRANSFER_S = 30
# Far more than they take (some ten seconds), far less than one retransmission too many each.
ALL_TRANSFERS_S = 90
DATAGRAMS = 20_000
DATAGRAM_PORT = 9000
SO_RCVBUFFORCE = 33


# --- the weather itself ------------------------------------------------------------------------------------


def _send_datagrams(lab):
    """Send DATAGRAMS numbered datagrams from client to backend; returns the numbers as they arrived, and their ages."""
    with lab.socket("backend1", AF_INET, SOCK_DGRAM) as receiver, lab.socket("client1", AF_INET, SOCK_DGRAM) as sender:
        receiver.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)  # what waits there is no part of the weather
        receiver.bind((lab.address_of("backend1"), DATAGRAM_PORT))
        receiver.settimeout(0.5)
        sender.connect((lab.address_of("backend1"), DATAGRAM_PORT))
        arrived, ages = [], []

        def receive():
            while True:
                try:
                    number, sent = struct.unpack("!Qd", receiver.recv(100))
                except TimeoutError:
                    return
                arrived.append(number)
                ages.append(time.monotonic() - sent)
        with ThreadPoolExecutor(1) as pool:
            received = pool.submit(receive)
            for number in range(DATAGRAMS):
                sender.send(struct.pack("!Qd", number, time.monotonic()))
                if number % 20 == 19:
                    time.sleep(0.001)  # 20,000 a second: a hundred are on the way at any time
            received.result()
    return arrived, ages


def _settled(lab, host):
    """The report of a cable once nothing waits on it and the last count is written."""
    def settled():
        before = lab.weather_report(host)
        time.sleep(0.15)
        after = lab.weather_report(host)
        return after if all(after[way] == before[way] and not after[way]["queued"] for way in WAYS) else None
    return eventually(settled, timeout_s=5, what="the weather settles")


def _resolved(lab):
    """Send single datagrams until one arrives: what waits for a neighbour's address overtakes itself, weather or not."""
    with lab.socket("backend1", AF_INET, SOCK_DGRAM) as receiver:
        receiver.bind((lab.address_of("backend1"), DATAGRAM_PORT))
        receiver.settimeout(0.2)

        def arrives():
            _send_one(lab)
            try:
                return receiver.recv(100)
            except TimeoutError:
                return None
        eventually(arrives, timeout_s=5, what="a datagram gets through")


def _behind_a_later_one(numbers):
    furthest, behind = -1, set()
    for number in numbers:
        if number < furthest:
            behind.add(number)
        furthest = max(furthest, number)
    return behind


def _near(count, of, share):
    """Within five standard deviations of a binomial distribution."""
    return abs(count - of * share) <= 5 * sqrt(of * share * (1 - share))


def test_the_weather_is_as_bad_as_asked(bare_lab):
    _resolved(bare_lab)
    before = _settled(bare_lab, "client1")["from_host"]
    arrived, ages = _send_datagrams(bare_lab)
    after = _settled(bare_lab, "client1")["from_host"]
    counted = {name: after[name] - before[name] for name in after}
    lost = DATAGRAMS - len(set(arrived))
    copies = len(arrived) - len(set(arrived))
    # What the program counted is what the two ends saw...
    assert (counted["received"], counted["delivered"]) == (DATAGRAMS, len(arrived)), counted
    assert (counted["lost"], counted["duplicated"]) == (lost, copies), counted
    assert counted["reordered"] == len(_behind_a_later_one(arrived)), counted
    assert not any(counted[name] for name in ("overflowed", "refused", "missed", "unreadable")), counted
    # ... and as much as was asked for.
    assert _near(lost, DATAGRAMS, 0.03), counted
    assert _near(copies, DATAGRAMS - lost, 0.02), counted
    assert _near(counted["held_back"], DATAGRAMS - lost, 0.01), counted
    assert counted["reordered"] > 0.9 * counted["held_back"], counted
    assert min(ages) >= 0.005 and sorted(ages)[len(ages) // 2] < 0.02, "5 ms and up to 1 ms more"


def test_a_seed_repeats_its_weather(bare_lab):
    fates = []
    for _ in range(2):
        bare_lab.processes.stop("weather@client1")
        bare_lab.start_weather("client1")
        arrived, _ = _send_datagrams(bare_lab)
        fates.append(Counter(arrived))  # absent: lost; 2: doubled
    assert fates[0] == fates[1]
    assert len(fates[0]) < DATAGRAMS and set(fates[0].values()) == {1, 2}


def test_what_is_not_ip_passes_untouched(bare_lab):
    before = _settled(bare_lab, "client1")
    bare_lab.run("client1", ["ip", "neighbor", "flush", "dev", "data0"])
    _send_one(bare_lab)
    after = _settled(bare_lab, "client1")
    assert [after[way]["passed"] - before[way]["passed"] for way in WAYS] == [1, 1], "an ARP question and its answer"
    assert after["from_host"]["received"] == before["from_host"]["received"] + 1


def _send_one(lab):
    with lab.socket("client1", AF_INET, SOCK_DGRAM) as sender:
        sender.sendto(b"one", (lab.address_of("backend1"), DATAGRAM_PORT))


# --- Baton in it -------------------------------------------------------------------------------------------


@contextmanager
def _weather_happens(lab):
    """Meanwhile, the lab's weather takes, doubles and reorders frames."""
    hosts = [host.name for host in lab.plan.weathered]

    def counted(what):
        return sum(_settled(lab, host)[way][what] for host in hosts for way in WAYS)
    before = {what: counted(what) for what in ("lost", "duplicated", "reordered")}
    yield
    happened = {what: counted(what) - count for what, count in before.items()}
    assert all(happened.values()), happened


@pytest.fixture
def weathered(weather_lab):
    """The lab, while its weather happens."""
    with _weather_happens(weather_lab):
        yield weather_lab


def _each(work, items):
    """Do `work` for all of them, some at a time; returns the results and how long it took."""
    begin = time.monotonic()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = list(pool.map(work, items))
    return results, time.monotonic() - begin


def test_files_arrive_byte_for_byte(weathered, tmp_path):
    def fetch(number):
        name, backend = FILES[number % len(FILES)], BACKENDS[number // len(FILES) % len(BACKENDS)]
        destination = tmp_path / str(number)
        # A connection that is reset or breaks off fails curl, and with it the test.
        curl(weathered, "-o", destination, weathered.url(f"/b/{backend}/files/{name}"),
             client=f"client{number % 2 + 1}", timeout_s=TRANSFER_S)
        return sha256_of(destination) == sha256_of(weathered.content_dir / name)
    whole, seconds = _each(fetch, range(FETCHES))
    assert all(whole) and len(whole) == FETCHES
    assert seconds < ALL_TRANSFERS_S


def test_a_kept_connection_answers_every_request(weathered):
    for backend in ("backend2", ROUTED_BACKEND):
        with weathered.connect("client1", timeout_s=TRANSFER_S) as connection:
            for number in range(FETCHES // 2):
                name = ("1k", "64k")[number % 2]
                assert ask(connection, f"/b/{backend}/files/{name}").sha256 == sha256_of(weathered.content_dir / name)


def test_every_post_is_done_once(weathered, tmp_path):
    marks = {backend: log_mark(weathered, backend) for backend in BACKENDS}
    run = secrets.token_hex(4)

    def post(number):
        body = secrets.token_bytes((200, 3000, 200_000)[number % 3])
        backend = BACKENDS[number % len(BACKENDS)]
        source = tmp_path / str(number)
        source.write_bytes(body)
        output = curl(weathered, "-i", "-H", "Expect:", "--data-binary", f"@{source}",
                      weathered.url(f"/b/{backend}/upload?{run}-{number}"), timeout_s=TRANSFER_S)
        headers = dict(line.lower().split(": ", 1) for line in output.splitlines() if ": " in line)
        stored = weathered.backend_dir(backend) / "uploads" / headers["x-upload-id"]
        return sha256_of(stored) == hashlib.sha256(body).hexdigest()
    whole, seconds = _each(post, range(UPLOADS))
    assert all(whole) and len(whole) == UPLOADS
    assert seconds < ALL_TRANSFERS_S

    def done():
        requests = [entry["request"] for backend in BACKENDS for entry in log_since(weathered, backend, marks[backend])]
        return [request.split("?")[1].split()[0] for request in requests if run in request]
    eventually(lambda: len(done()) >= UPLOADS, timeout_s=5, what="the servers log them all")
    assert sorted(done()) == sorted(f"{run}-{number}" for number in range(UPLOADS))


def test_heads_in_many_segments_arrive_whole(weathered):
    def ask_at_length(number):
        backend, digest = BACKENDS[number % len(BACKENDS)], secrets.token_hex(3000)
        fields = [f"X-Part-{part}: {digest}" for part in range(1 + number % 4)]
        asked = request(f"/b/{backend}/files/1k", close=True, headers=fields)
        with weathered.connect(f"client{number % 2 + 1}", timeout_s=TRANSFER_S) as connection:
            connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            step = 500 if number % 2 else len(asked)
            for at in range(0, len(asked), step):
                connection.sendall(asked[at:at + step])
            return read_answer(connection).sha256
    answers, seconds = _each(ask_at_length, range(HEADS))
    assert set(answers) == {sha256_of(weathered.content_dir / "1k")} and len(answers) == HEADS
    assert seconds < ALL_TRANSFERS_S


def test_error_pages_arrive_whole(weather_lab):
    def misspell(number):
        with weather_lab.connect(f"client{number % 2 + 1}", timeout_s=TRANSFER_S) as connection:
            connection.sendall(b"GET / HTTP/7.0\r\n\r\n")
            answer = read_answer(connection)
            return answer.status, len(answer.body) > 0, connection.recv(1)
    if [host.name for host in weather_lab.plan.weathered] == [ROUTED_BACKEND]:
        pytest.skip("an error page takes no backend's cable")
    with _weather_happens(weather_lab):
        answers, seconds = _each(misspell, range(HEADS))
    assert set(answers) == {(400, True, b"")}, "a status, a reason and an orderly end"
    assert seconds < ALL_TRANSFERS_S


def test_path_rules_reach_three_servers(weathered):
    """And the one behind the router, whatever the weather is on; each request once, where its path leads."""
    paths = {"backend1": "/files/64k", "backend2": "/video/64k", "backend3": "/db/x",
             ROUTED_BACKEND: f"/b/{ROUTED_BACKEND}/files/64k"}
    marks, run = {name: log_mark(weathered, name) for name in paths}, secrets.token_hex(4)

    def fetch(number):
        backend = BACKENDS[number % len(BACKENDS)]
        with weathered.connect(f"client{number % 2 + 1}", timeout_s=TRANSFER_S) as connection:
            return ask(connection, f"{paths[backend]}?{run}-{number}", close=True).backend == backend
    right, seconds = _each(fetch, range(FETCHES))
    assert all(right) and len(right) == FETCHES
    assert seconds < ALL_TRANSFERS_S

    def done():
        requests = [(name, e["request"].split()[1]) for name in paths for e in log_since(weathered, name, marks[name])]
        return sorted((name, path) for name, path in requests if run in path)
    eventually(lambda: len(done()) >= FETCHES, timeout_s=5, what="the servers log them all")
    assert done() == sorted((name, f"{paths[name]}?{run}-{number}") for number in range(FETCHES)
                            for name in [BACKENDS[number % len(BACKENDS)]])


def test_a_listener_that_is_down_is_served_elsewhere(weather_lab):
    """Nobody but the refused handoffs says that a server is gone: they, or the refusals, get lost and doubled, too."""
    if [host.name for host in weather_lab.plan.weathered] == [ROUTED_BACKEND]:
        pytest.skip("too few packets take that cable to be sure of any weather")
    with _weather_happens(weather_lab):
        connections, _ = _each(lambda number: weather_lab.connect(f"client{number % 2 + 1}", timeout_s=TRANSFER_S),
                               range(HEADS))
        before = counters(weather_lab)
        weather_lab.processes.signal(f"agent@{ROUTED_BACKEND}", SIGSTOP)
        try:
            weather_lab.stop_nginx(ROUTED_BACKEND)
            for connection in connections:
                connection.sendall(request("/who", close=True))
            answers = [read_answer(connection) for connection in connections]
            after = counters(weather_lab)
        finally:
            for connection in connections:
                connection.close()
            weather_lab.start_nginx(ROUTED_BACKEND)
            weather_lab.processes.signal(f"agent@{ROUTED_BACKEND}", SIGCONT)
        # Every request as well goes through the weather in which its handoff may get lost.
        weather_lab.wait_served_by(ROUTED_BACKEND)
    assert {answer.status for answer in answers} == {200} and len(answers) == HEADS
    assert {answer.backend for answer in answers} == set(BACKENDS) - {ROUTED_BACKEND}
    assert after["handoffs_refused"] - before["handoffs_refused"] >= HEADS // 10
    assert after["resets_sent"] == before["resets_sent"]


def test_10_mb_there_and_back(weathered, tmp_path):
    """Downloads and uploads of a server on the switch's network and of one behind the router, at the same time."""
    content = weathered.content_dir / "10m"

    def download(backend):
        destination = tmp_path / backend
        curl(weathered, "-o", destination, weathered.url(f"/b/{backend}/files/10m"), timeout_s=ALL_TRANSFERS_S)
        return sha256_of(destination)

    def upload(backend):
        output = curl(weathered, "-i", "-H", "Expect:", "--data-binary", f"@{content}",
                      weathered.url(f"/b/{backend}/upload"), client="client2", timeout_s=ALL_TRANSFERS_S)
        headers = dict(line.lower().split(": ", 1) for line in output.splitlines() if ": " in line)
        stored = weathered.backend_dir(backend) / "uploads" / headers["x-upload-id"]
        digest = sha256_of(stored)
        stored.unlink()
        return digest
    transfers = [(way, backend) for way in (download, upload) for backend in ("backend1", ROUTED_BACKEND)]
    digests, seconds = _each(lambda transfer: transfer[0](transfer[1]), transfers)
    assert digests == [sha256_of(content)] * len(transfers)
    assert seconds < ALL_TRANSFERS_S


def test_a_half_close_in_mid_download(weathered):
    """The client's FIN may get lost, come twice or come late; what it asked for comes whole, and then the end."""
    with in_place_of_nginx(weathered, ROUTED_BACKEND):
        eventually(lambda: backend_of(weathered, ROUTED_BACKEND)["usable"], timeout_s=5, what="the server is well")

        def download(number):
            with weathered.connect(f"client{number % 2 + 1}", timeout_s=TRANSFER_S) as connection:
                connection.sendall(request(f"/b/{ROUTED_BACKEND}/10m"))
                assert connection.recv(1, MSG_PEEK)
                connection.shutdown(SHUT_WR)
                return read_answer(connection).body == plain_body() and connection.recv(1) == b""
        assert _each(download, range(HALF_CLOSES))[0] == [True] * HALF_CLOSES
    weathered.wait_served_by(ROUTED_BACKEND)
