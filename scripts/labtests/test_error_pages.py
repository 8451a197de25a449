"""Errors the switch answers itself: a whole response, a proper end, and nothing left of either.

A RST may lose its client the response. So there is none for a client that ends as clients do.
"""

import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from helpers import (answer_of, ask, counters, eventually, flow_count, flow_of, get, grown, log_mark, log_since,
                     read_answer, read_to_end, request)

from lab_lib.topology import VIP, VIP_NAME, VIP_PORT

# Two hosts in one Host field: no server could know which is meant.
MALFORMED = f"GET /who HTTP/1.1\r\nHost: {VIP}, other\r\n\r\n".encode()
MALFORMED_LINE = "The request head is not HTTP/1.1, or says two things at once.\n"
CUT_OFF_LINE = "The connection was closed before the request head was complete.\n"
UNFINISHED_LINE = "The request head was not completed in time.\n"
TOO_LARGE_LINE = "The request head is too large.\n"
NO_RULE_LINE = "No service is configured for this address.\n"
NO_BACKEND_LINE = "No server is available for this address.\n"
REFUSED_LINE = "No server takes new connections for this address.\n"
# How long the switch knows the connection, and what this machine may add.
END_S, END_ADDS_S = 5.0, 1.0
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8
UNFINISHED_S = 2
PAGE = "<!doctype html><title>later</title>" + "<p>sorry</p>" * 1000


def _curl(lab, *arguments, client="client1"):
    """What curl fetched, errors of HTTP included. A connection that is reset or breaks off fails the test."""
    result = lab.run(client, ["curl", "-sS", "-i", "--max-time", "10", *arguments], text=False)
    assert not result.stderr, result.stderr
    return answer_of(result.stdout)


def _check(answer, status, line):
    """The switch's own page, whole."""
    assert (answer.status, answer.body.decode()) == (status, line), answer
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["connection"] == "close" and answer.headers["cache-control"] == "no-store"
    assert "x-backend" not in answer.headers and "server" not in answer.headers


def _sent(lab, data, *, finish=False, **options):
    """Send bytes on a connection of their own and read what comes to the end."""
    with lab.connect("client1", **options) as connection:
        connection.sendall(data)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        return answer_of(read_to_end(connection))


def _state(connection):
    """The kernel's state of a connection."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


# --- with curl ---------------------------------------------------------------------------------------------


def test_400(lab):
    before = counters(lab)
    _check(_curl(lab, "-H", f"Host: {VIP}, other", lab.url("/who")), 400, MALFORMED_LINE)
    counted = grown(lab, before)
    assert (counted["errors_400"], counted["drop_request_malformed"]) == (1, 1), counted
    assert "resets_sent" not in counted and "handoffs" not in counted, counted


@pytest.mark.parametrize("headers", [[f"X-{n}: {n}" for n in range(130)], [f"X-{n}: {'x' * 4000}" for n in range(9)],
                                     [f"X: {'x' * 40_000}"]], ids=["fields", "bytes", "one-line"])
def test_431(lab, headers):
    """More than 128 fields; more than 32 KB, of which some is still on its way when the switch answers."""
    before = counters(lab)
    _check(_curl(lab, *(a for h in headers for a in ("-H", h)), lab.url("/who")), 431, TOO_LARGE_LINE)
    counted = grown(lab, before)
    assert (counted["errors_431"], counted["drop_head_too_large"]) == (1, 1), counted
    assert "resets_sent" not in counted and "handoffs" not in counted, counted


def test_503_while_the_server_is_down(lab, nginx_stopped):
    """At first its backend refuses; when the agent has told, nothing is offered any more. A POST is told as well."""
    before = counters(lab)
    nginx_stopped("backend3")
    answer = _curl(lab, lab.url("/db/x"))
    _check(answer, 503, answer.body.decode())
    assert answer.body.decode() in (REFUSED_LINE, NO_BACKEND_LINE)

    def unavailable():
        return _curl(lab, lab.url("/db/x")).body.decode() == NO_BACKEND_LINE
    eventually(unavailable, timeout_s=2, what="the agent tells")
    posted = _curl(lab, "-H", "Expect:", "--data-binary", "x" * 100_000, lab.url("/db/x"))
    _check(posted, 503, NO_BACKEND_LINE)
    counted = grown(lab, before)
    assert counted["errors_503"] >= 3 and "resets_sent" not in counted, counted
    assert counted["errors_503"] == counted["drop_no_backend"] + counted.get("drop_refused_by_all", 0), counted


def test_head_gets_a_head(lab):
    """As many bytes are told as GET would get, and none of them comes."""
    answer = _curl(lab, "--head", "-H", f"Host: {VIP}, other", lab.url("/who"))
    assert (answer.status, answer.body) == (400, b"")
    assert answer.headers["content-length"] == str(len(MALFORMED_LINE))
    raw = _sent(lab, MALFORMED.replace(b"GET", b"HEAD"))
    assert (raw.status, raw.body) == (400, b"")


def test_curl_asks_again_at_once(lab):
    """The error closes its connection; the next request, in the same run of curl, gets another one."""
    each = ["-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n", lab.url("/who")]
    output = lab.run("client1", ["curl", *("-H", "X-1: 1") * 129, *each, "--next", *each]).stdout
    assert output == "431 1\n200 1\n"


# --- with nc ------------------------------------------------------------------------------------------------


def _nc(lab, data, *options):
    """What nc got for its standard input. A RST from either side fails the test: nc itself would say nothing of it."""
    before, resets = counters(lab), lab.tcp_counters("client1")
    result = lab.run("client1", ["nc", *options, VIP, str(VIP_PORT)], stdin=data, text=False, timeout_s=10)
    assert not result.stderr, result.stderr
    after = lab.tcp_counters("client1")
    assert all(after[name] == resets[name] for name in ("EstabResets", "OutRsts")), (after, resets)
    assert "resets_sent" not in grown(lab, before)
    return answer_of(result.stdout)


# One waits for the switch to close, the other closes its half when it has sent what it has.
NC_WAITS, NC_HALF_CLOSES = [], ["-N"]


@pytest.mark.parametrize("options", [NC_WAITS, NC_HALF_CLOSES], ids=["waits", "half-closes"])
def test_nc_gets_every_page_and_its_end(lab, nginx_stopped, options):
    _check(_nc(lab, MALFORMED, *options), 400, MALFORMED_LINE)
    fields = [f"X-{number}: {number}" for number in range(130)]
    _check(_nc(lab, request("/who", headers=fields), *options), 431, TOO_LARGE_LINE)
    _check(_nc(lab, request("/who", headers=[f"X: {'x' * 40_000}"]), *options), 431, TOO_LARGE_LINE)
    nginx_stopped("backend3")
    answer = _nc(lab, request("/db/x"), *options)
    assert answer.body.decode() in (REFUSED_LINE, NO_BACKEND_LINE)
    _check(answer, 503, answer.body.decode())


def test_nc_that_ends_within_a_head(lab):
    _check(_nc(lab, request("/who")[:20], *NC_HALF_CLOSES), 400, CUT_OFF_LINE)


# --- how it ends -------------------------------------------------------------------------------------------


def test_a_client_that_half_closes(lab):
    """Its FIN comes with the request or after it; it gets the response, the end, and no RST."""
    before = counters(lab)
    _check(_sent(lab, MALFORMED, finish=True), 400, MALFORMED_LINE)
    assert "resets_sent" not in grown(lab, before)


def test_a_head_that_is_cut_off(lab):
    """The client has nothing more to say, and its head has no end."""
    for pieces in ([request("/who")[:20]], [request("/who")[:20], request("/who")[20:30]]):
        before = counters(lab)
        with lab.connect("client1") as connection:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.1)
            connection.shutdown(socket.SHUT_WR)
            _check(answer_of(read_to_end(connection)), 400, CUT_OFF_LINE)
        counted = grown(lab, before)
        assert counted["errors_400"] == 1 and "resets_sent" not in counted, counted


def test_a_client_that_never_closes(lab):
    """It gets the response and the FIN; five seconds later, which is all the switch gives it, a RST."""
    before = counters(lab)
    with lab.connect("client1") as connection:
        began = time.monotonic()
        connection.sendall(MALFORMED)
        _check(answer_of(read_to_end(connection)), 400, MALFORMED_LINE)
        assert time.monotonic() - began < 1
        assert flow_of(lab, connection)["state"] == "answered" and _state(connection) == TCP_CLOSE_WAIT
        eventually(lambda: _state(connection) == TCP_CLOSE, timeout_s=END_S + END_ADDS_S, what="the switch resets")
        assert END_S - 0.2 < time.monotonic() - began < END_S + END_ADDS_S
        assert flow_of(lab, connection) is None
    counted = grown(lab, before)
    assert (counted["resets_sent"], counted["page_segments"]) == (1, 1), counted
    assert "page_segments_repeated" not in counted, counted


def test_the_flow_shows_and_goes(lab):
    with lab.connect("client1") as connection:
        name = connection.getsockname()
        connection.sendall(MALFORMED)
        assert answer_of(read_to_end(connection)).status == 400
        flow = flow_of(lab, connection)
        assert flow["state"] == "answered", flow
        assert f"{name[0]}:{name[1]}" in lab.batonctl("flows", "--limit", "10000").stdout
    gone = type("Closed", (), {"getsockname": staticmethod(lambda: name)})
    eventually(lambda: flow_of(lab, gone) is None, timeout_s=END_S + END_ADDS_S, what="the flow goes")


def test_a_client_that_is_still_sending(lab):
    """20 MB behind a head that cannot be: thrown away as it comes, so that the response is not lost to a RST."""
    body, before = bytes(20 << 20), counters(lab)
    head = f"POST /who HTTP/1.1\r\nHost: {VIP}, other\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with lab.connect("client1") as connection, ThreadPoolExecutor(1) as pool:
        began = time.monotonic()

        def send():
            try:
                connection.sendall(head + body)
                connection.shutdown(socket.SHUT_WR)
            except OSError as error:  # the time was up
                return error
            return None
        sending = pool.submit(send)
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b"\n"):
            data += connection.recv(65536)
        _check(answer_of(data), 400, MALFORMED_LINE)
        assert time.monotonic() - began < 1
        assert connection.recv(1) == b"", "and the end"
        error = sending.result(timeout=30)
        took = time.monotonic() - began
    assert took < END_S + END_ADDS_S, took
    counted = grown(lab, before)
    assert counted["input_discarded"] > 0 and "handoffs" not in counted, counted
    # Either all of it fitted into the time, or the RST came when that was up.
    was_reset = isinstance(error, (ConnectionResetError, BrokenPipeError))
    assert was_reset == (counted.get("resets_sent", 0) == 1), (error, counted)


def test_a_client_that_sends_for_ever(lab):
    """Whatever it sends buys it no more time."""
    with lab.connect("client1") as connection:
        began = time.monotonic()
        connection.sendall(MALFORMED)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while time.monotonic() - began < END_S + 2 * END_ADDS_S:
                connection.send(b"x" * 100)
                time.sleep(0.05)
        assert END_S - 0.2 < time.monotonic() - began < END_S + END_ADDS_S


def test_the_port_is_used_again_at_once(lab):
    """The same 4-tuple, while the switch still knows the connection it answered: served as any other."""
    with lab.connect("client1") as connection:
        name = connection.getsockname()
        connection.sendall(MALFORMED)
        assert answer_of(read_to_end(connection)).status == 400
    before = counters(lab)
    again = lab.socket("client1", socket.AF_INET, socket.SOCK_STREAM)
    with again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(name)
        again.settimeout(5)
        again.connect((VIP, VIP_PORT))
        assert ask(again, "/who", close=True).status == 200
    counted = grown(lab, before)
    assert counted["flows_replaced"] == 1 and counted["handoffs"] == 1, counted


# --- lost on the way ---------------------------------------------------------------------------------------


@contextmanager
def _first_lost(lab, direction, count):
    """Within, the router loses the first `count` segments with data or FIN between client1 and the VIP, and no bare
    acknowledgment; yields what tells how many it lost."""
    client = lab.address_of("client1")
    ends = ["ip", "saddr", VIP, "ip", "daddr", client] if direction == "to_client" else \
        ["ip", "saddr", client, "ip", "daddr", VIP]
    ends += ["tcp", "flags", "&", "(fin", "|", "psh)", "!=", "0"]
    lab.run("router", ["nft", "add", "table", "ip", "loss"])
    try:
        lab.run("router", ["nft", "add chain ip loss forward { type filter hook forward priority 0 ; }"])
        # numgen counts the packets that get that far: the first ones get the numbers below `count`.
        first = ["numgen", "inc", "mod", "4294967295", "<", str(count)]
        lab.run("router", ["nft", "add", "rule", "ip", "loss", "forward", *ends, *first, "counter", "drop"])

        def lost():
            words = lab.run("router", ["nft", "list", "table", "ip", "loss"]).stdout.split()
            return int(words[words.index("packets") + 1])
        yield lost
    finally:
        lab.run("router", ["nft", "delete", "table", "ip", "loss"])


# Times at which a page is sent: at once, then after 0.2, 0.4, 0.8, 1.6 s more.
@pytest.mark.parametrize("count, after_s", [(1, 0.2), (3, 1.4)])
def test_a_lost_response_is_sent_again(lab, count, after_s):
    with lab.connect("client1") as connection, _first_lost(lab, "to_client", count) as lost:
        before, began = counters(lab), time.monotonic()
        connection.sendall(MALFORMED)
        _check(answer_of(read_to_end(connection)), 400, MALFORMED_LINE)
        took = time.monotonic() - began
        assert lost() == count, "the router lost what it should"
    assert after_s - 0.05 < took < after_s + 0.3, took
    counted = grown(lab, before)
    assert (counted["page_segments"], counted["page_segments_repeated"]) == (1, count), counted
    assert counted["errors_400"] == 1 and "resets_sent" not in counted, counted


def test_a_lost_end_of_the_client_is_sent_again(lab):
    """Its FIN gets lost twice: its kernel sends it again, the switch acknowledges it, and nobody is reset."""
    before = counters(lab)
    with lab.connect("client1") as connection:
        port = connection.getsockname()[1]
        connection.sendall(MALFORMED)
        _check(answer_of(read_to_end(connection)), 400, MALFORMED_LINE)
        with _first_lost(lab, "from_client", 2) as lost:
            connection.close()

            def is_gone():
                return not lab.run("client1", ["ss", "-Htan", "sport", "=", f":{port}"]).stdout
            eventually(is_gone, timeout_s=3, what="the client's kernel is rid of the connection")
            assert lost() == 2
    assert "resets_sent" not in grown(lab, before)


# --- configured --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_lab(small_lab):
    """A switch with little patience, rules that do not take everything, and a page of its own for 503."""
    page = small_lab.run_dir / "503.html"
    page.write_text(PAGE)
    prefixes = ("/b/backend1/", "/db/")
    small_lab.start_baton({
        "requests": {"unfinished_timeout_s": UNFINISHED_S},
        "flows": {"closing_timeout_s": 1, "unconfirmed_timeout_s": 3},
        "error_page": [{"status": 503, "file": str(page), "content_type": "text/html; charset=ascii"}],
        "rule": [{"vip": VIP_NAME, "path_prefix": prefix, "pool": "backend1"} for prefix in prefixes],
    })
    # The first requests of all were sent before the backend was ready: what is left of them must not be counted here.
    eventually(lambda: flow_count(small_lab) == 0, timeout_s=20, what="a quiet switch")
    return small_lab


@pytest.mark.parametrize("pieces", [1, 5])
def test_408(own_lab, pieces):
    """The time runs from the first byte: what comes of a head piece by piece buys no more."""
    before, data = counters(own_lab), request("/db/x")
    with own_lab.connect("client1") as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic()
        for at in range(pieces):
            connection.send(data[at:at + 1])
            time.sleep(0.3)
        assert flow_of(own_lab, connection)["state"] == "holding"
        _check(answer_of(read_to_end(connection)), 408, UNFINISHED_LINE)
        took = time.monotonic() - began
    assert UNFINISHED_S - 0.1 < took < UNFINISHED_S + 0.5, took
    counted = grown(own_lab, before)
    assert (counted["errors_408"], counted["drop_request_unfinished"]) == (1, 1), counted
    assert "resets_sent" not in counted and "handoffs" not in counted, counted


def test_408_with_curl(own_lab):
    """curl as a terminal: somebody types half a request and goes for a coffee."""
    typed = f"(printf 'GET /db/x HTT'; sleep {UNFINISHED_S + 1}) | curl -sS --max-time 10 telnet://{VIP}:{VIP_PORT}"
    result = own_lab.run("client1", ["sh", "-c", typed], text=False)
    assert not result.stderr, result.stderr
    _check(answer_of(result.stdout), 408, UNFINISHED_LINE)


def test_408_with_nc(own_lab):
    """Half a request from a file, after which nc goes on waiting."""
    _check(_nc(own_lab, b"GET /db/x HTT", *NC_WAITS), 408, UNFINISHED_LINE)


def test_a_head_finished_in_time_is_served(own_lab):
    with own_lab.connect("client1") as connection:
        data = request("/db/x?id=7", close=True)
        connection.send(data[:20])
        time.sleep(UNFINISHED_S - 0.5)
        connection.send(data[20:])
        assert read_answer(connection).status == 200


def _check_page(answer):
    assert answer.status == 503 and answer.body.decode() == PAGE
    assert answer.headers["content-type"] == "text/html; charset=ascii"
    assert answer.headers["content-length"] == str(len(PAGE))


def test_503_without_a_rule_has_the_operators_page(own_lab):
    """12 KB: more segments than one. Other errors keep their lines."""
    before, mark = counters(own_lab), log_mark(own_lab, "backend1")
    _check_page(_curl(own_lab, own_lab.url("/elsewhere")))
    _check_page(_sent(own_lab, request("/elsewhere"), finish=True))
    counted = grown(own_lab, before)
    assert (counted["errors_503"], counted["drop_no_rule"]) == (2, 2), counted
    assert counted["page_segments"] == 2 * -(-(len(PAGE) + 180) // 1364), counted
    assert "resets_sent" not in counted and not log_since(own_lab, "backend1", mark), counted
    _check(_sent(own_lab, MALFORMED), 400, MALFORMED_LINE)
    assert get(own_lab, "/b/backend1/who").status == 200


@pytest.mark.parametrize("mss", [536, 1460])
def test_the_operators_page_fits_the_client(own_lab, mss):
    small = (socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
    _check_page(_sent(own_lab, request("/elsewhere"), options=[small]))


@pytest.mark.parametrize("count", [1, 4, 12])
def test_lost_pieces_of_the_operators_page_are_sent_again(own_lab, count):
    """Of its nine segments or so the first is lost, or some, or more than all: a whole round."""
    with own_lab.connect("client1") as connection, _first_lost(own_lab, "to_client", count) as lost:
        connection.sendall(request("/elsewhere"))
        _check_page(answer_of(read_to_end(connection)))
        assert lost() == count


def test_503_when_the_only_server_is_gone(own_lab):
    own_lab.stop_nginx("backend1")
    try:
        with own_lab.connect("client1") as connection:
            connection.sendall(request("/db/x"))
            _check_page(answer_of(read_to_end(connection)))
        _check_page(_sent(own_lab, b"POST /db/x HTTP/1.1\r\nHost: h\r\nContent-Length: 90000\r\n\r\n"
                          + secrets.token_bytes(90_000)))
    finally:
        own_lab.start_nginx("backend1")
        own_lab.wait_served_by("backend1")
