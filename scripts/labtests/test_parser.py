"""Parser and kernel agree: what the switch reads of odd bytes is what the server reads, or nobody reads them.

Each case has an outcome at the client, in the switch's counters and in the server's log. docs/PROTOCOL.md has tables of them.
"""

import time

import pytest
from helpers import answer_of, counters, cut_off, eventually, grown, log_mark, log_since, logged, read_to_end, request
from rawclient import RawClient

from lab_lib.topology import VIP, VIP_NAME

BACKENDS = ("backend1", "backend2", "backend3", "backend4")
BACKEND = "backend1"
WHO = f"/b/{BACKEND}/who"
HOST = f"Host: {VIP}\r\n"
CLOSE = "Connection: close\r\n"
MALFORMED_LINE = b"The request head is not HTTP/1.1, or says two things at once.\n"
DISPUTED_LINE = b"The request head came in two versions.\n"


@pytest.fixture
def raw(lab):
    client = RawClient(lab)
    yield client
    client.close()


@pytest.fixture
def marks(lab):
    """Where the logs of all servers ended when the test began."""
    return {name: log_mark(lab, name) for name in BACKENDS}


def _requests(lab, marks, port):
    """[(server, request, status)] that came from a client's port since the marks."""
    return [(name, entry["request"], entry["status"]) for name, mark in marks.items()
            for entry in log_since(lab, name, mark) if entry["port"] == port]


def _head(first_line, *fields, host=HOST):
    return "".join((first_line, "\r\n", host, *(f"{field}\r\n" for field in fields), CLOSE, "\r\n")).encode("latin-1")


def _ask(lab, data):
    """What comes back for these bytes to the end, and the client's port. A reset fails the test."""
    with lab.connect("client1") as connection:
        connection.sendall(data)
        return answer_of(read_to_end(connection)), connection.getsockname()[1]


# --- read by the switch, answered by a server ---------------------------------------------------------------

# name: (bytes, status, what the server logs as the request). All but the last three go to BACKEND because of their path.
HANDED_OFF = {
    "ordinary": (_head(f"GET {WHO} HTTP/1.1"), 200, f"GET {WHO} HTTP/1.1"),
    "HTTP/1.0 without Host": (_head(f"GET {WHO} HTTP/1.0", host=""), 200, f"GET {WHO} HTTP/1.0"),
    "HTTP/1.1 without Host": (_head(f"GET {WHO} HTTP/1.1", host=""), 400, f"GET {WHO} HTTP/1.1"),
    "empty Host": (_head(f"GET {WHO} HTTP/1.1", host="Host:\r\n"), 400, f"GET {WHO} HTTP/1.1"),
    "Host with a port": (_head(f"GET {WHO} HTTP/1.1", host="Host: x.example:80\r\n"), 200, f"GET {WHO} HTTP/1.1"),
    "Host is an IPv6 address": (_head(f"GET {WHO} HTTP/1.1", host="Host: [::1]:80\r\n"), 200, f"GET {WHO} HTTP/1.1"),
    "a tab behind the Host": (_head(f"GET {WHO} HTTP/1.1", host="Host: x.example\t\r\n"), 400, f"GET {WHO} HTTP/1.1"),
    "a tab in front of the Host": (_head(f"GET {WHO} HTTP/1.1", host="Host:\tx.example\r\n"), 400, f"GET {WHO} HTTP/1.1"),
    "lines end with LF alone": (_head(f"GET {WHO} HTTP/1.1").replace(b"\r\n", b"\n"), 200, f"GET {WHO} HTTP/1.1"),
    "empty lines in front": (b"\r\n\r\n" + _head(f"GET {WHO} HTTP/1.1"), 200, f"GET {WHO} HTTP/1.1"),
    "LF in front": (b"\n" + _head(f"GET {WHO} HTTP/1.1"), 200, f"GET {WHO} HTTP/1.1"),
    "2 KB of empty lines in front": (b"\r\n" * 1000 + _head(f"GET {WHO} HTTP/1.1"), 200, f"GET {WHO} HTTP/1.1"),
    "a line of 30 KB": (_head(f"GET {WHO}?{'a' * 30_000} HTTP/1.1"), 200, f"GET {WHO}?{'a' * 30_000} HTTP/1.1"),
    "a field of 30 KB": (_head(f"GET {WHO} HTTP/1.1", "X: " + "a" * 30_000), 200, f"GET {WHO} HTTP/1.1"),
    "bytes above 127 in a field": (_head(f"GET {WHO} HTTP/1.1", "X: \xff\xfe"), 200, f"GET {WHO} HTTP/1.1"),
    "absolute-form": (_head(f"GET http://x.example{WHO} HTTP/1.1"), 200, f"GET http://x.example{WHO} HTTP/1.1"),
    "absolute-form, https": (_head(f"GET https://x.example{WHO} HTTP/1.1"), 200, f"GET https://x.example{WHO} HTTP/1.1"),
    "both lengths": (_head(f"POST {WHO} HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400,
                     f"POST {WHO} HTTP/1.1"),
    "two lengths": (_head(f"POST {WHO} HTTP/1.1", "Content-Length: 3", "Content-Length: 4") + b"abcd", 400,
                    f"POST {WHO} HTTP/1.1"),
    "method in lower case": (_head(f"get {WHO} HTTP/1.1"), 400, f"get {WHO} HTTP/1.1"),
    "unknown method": (_head(f"FROB {WHO} HTTP/1.1"), 200, f"FROB {WHO} HTTP/1.1"),
    "fragment": (_head(f"GET {WHO}#/x HTTP/1.1"), 200, f"GET {WHO}#/x HTTP/1.1"),
    "asterisk-form": (_head("OPTIONS * HTTP/1.1"), 400, "OPTIONS * HTTP/1.1"),
    "authority-form": (_head("CONNECT x.example:443 HTTP/1.1"), 400, "CONNECT x.example:443 HTTP/1.1"),
    "absolute-form without path": (_head("GET http://x.example?q HTTP/1.1"), 200, "GET http://x.example?q HTTP/1.1"),
}
ANYWHERE = {"asterisk-form", "authority-form", "absolute-form without path"}


@pytest.mark.parametrize("name", HANDED_OFF)
def test_a_server_answers(lab, marks, name):
    data, status, logged_as = HANDED_OFF[name]
    before = counters(lab)
    answer, port = _ask(lab, data)
    assert answer.status == status and answer.headers["server"].startswith("nginx"), answer
    found = eventually(lambda: _requests(lab, marks, port), timeout_s=2, what="a line in a server's log")
    assert [(request, code) for _, request, code in found] == [(logged_as, status)]
    assert name in ANYWHERE or found[0][0] == BACKEND, "the server the path asks for"
    counted = grown(lab, before)
    assert counted["handoffs"] == 1 and not [key for key in counted if key.startswith(("errors_", "resets_"))], counted


@pytest.mark.parametrize("target, takers", [
    (f"/b/{BACKEND}/../backend2/who", {BACKEND}), ("/%62/backend2/who", set(BACKENDS)),
    ("//b/backend2/who", set(BACKENDS)), ("/b/./backend2/who", set(BACKENDS))])
def test_paths_are_taken_as_written(lab, marks, target, takers):
    """nginx reads each as a path that a rule sends to backend2. The rules go by what the request line says."""
    answer, port = _ask(lab, _head(f"GET {target} HTTP/1.1"))
    assert answer.status == 200 and answer.backend in takers
    found = logged(lab, answer.backend, marks[answer.backend], lambda e: e["port"] == port)
    assert [entry["request"] for entry in found] == [f"GET {target} HTTP/1.1"]


# What is asked for, by which host it is to be served; None: nobody's.
HOSTS = [("Host: x.example\r\n", "/deep", "x.example"), ("Host: X.Example:80\r\n", "/deep", "x.example"),
         ("host:x.example  \r\n", "/deep", "x.example"), ("Host: x.example.\r\n", "/deep", "x.example"),
         ("Host: y.example\r\n", "/deep", None),
         ("Host: y.example\r\n", "http://x.example/deep", "x.example"),
         ("Host: y.example\r\n", "HTTP://X.example:8080/deep", "x.example"),
         ("Host: x.example\r\n", "http://y.example/deep", None), ("Host: [::1]:80\r\n", "/deep", "[::1]"),
         ("X-Host: x.example\r\nHost: y.example\r\n", "/deep", None), ("X: no Host\r\n", "/deep", None)]


@pytest.fixture(scope="module")
def host_lab(small_lab):
    """Two hosts are served, and a directory that is only to be asked for without its slash."""
    rules = [{"host": "x.example", "pool": BACKEND}, {"host": "[::1]", "pool": BACKEND},
             {"path_prefix": f"/b/{BACKEND}/", "pool": BACKEND}]
    small_lab.start_baton({"rule": [{"vip": VIP_NAME, **rule} for rule in rules]})
    (small_lab.content_dir / "deep").mkdir()
    return small_lab


@pytest.mark.parametrize("fields, target, host", HOSTS)
def test_server_and_switch_agree_on_the_host(host_lab, fields, target, host):
    """nginx sends who asks for a directory on, to the host it takes the request to be for: the one whose rule took it."""
    answer, _ = _ask(host_lab, f"GET {target} HTTP/1.1\r\n{fields}{CLOSE}\r\n".encode())
    if host is None:
        assert (answer.status, answer.body) == (503, b"No service is configured for this address.\n")
    else:
        assert (answer.status, answer.headers.get("location")) == (301, f"http://{host}/deep/")


# --- answered by the switch ---------------------------------------------------------------------------------

_GOOD = f"GET {WHO} HTTP/1.1"
CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(200)
REFUSED = {
    "NUL in a field": _head(_GOOD, "X: a\0b"),
    "NUL in a field's name": _head(_GOOD, "X\0: b"),
    "NUL in the target": _head(f"GET {WHO}\0x HTTP/1.1"),
    "NUL in the method": _head(f"GE\0T {WHO} HTTP/1.1"),
    "control character in a field": _head(_GOOD, "X: a\1b"),
    "DEL in the target": _head(f"GET {WHO}\x7f HTTP/1.1"),
    "bare CR in a field": _head(_GOOD, "X: a\rb"),
    "bare CR before a field": _head(_GOOD, "X: a\rHost: other"),
    "bare CR in the request line": _head(f"GET {WHO}\rHTTP/1.1"),
    "bare CR in front": b"\r" + _head(_GOOD),
    "obs-fold": _head(_GOOD, "X: a\r\n b"),
    "obs-fold with a tab": _head(_GOOD, "X: a\r\n\tb"),
    "blank before the first field": _head(_GOOD, host=f" {HOST}"),
    "two Host fields": _head(_GOOD, "Host: other"),
    "the same Host twice": _head(_GOOD, HOST.strip()),
    "two Host fields, one in capitals": _head(_GOOD, "HOST: other"),
    "absolute-form and two Host fields": _head(f"GET http://x.example{WHO} HTTP/1.1", "Host: other"),
    "Host with a path": _head(_GOOD, host="Host: a/b\r\n"),
    "Host with a list": _head(_GOOD, host="Host: a, b\r\n"),
    "Host with a user": _head(_GOOD, host="Host: me@a\r\n"),
    "Host with a name as port": _head(_GOOD, host="Host: a:b\r\n"),
    "Host with a name in brackets": _head(_GOOD, host="Host: [a]\r\n"),
    "blank before a colon": _head(_GOOD, "X : a"),
    "blank before the colon of Host": _head(_GOOD, host=f"Host : {VIP}\r\n"),
    "field without colon": _head(_GOOD, "nonsense"),
    "field without name": _head(_GOOD, ": a"),
    "absolute-form, neither http nor https": _head(f"GET ftp://x.example{WHO} HTTP/1.1"),
    "absolute-form with a user": _head(f"GET http://me@x.example{WHO} HTTP/1.1"),
    "target without form": _head("GET who HTTP/1.1"),
    "two blanks": _head(f"GET  {WHO} HTTP/1.1"),
    "tabs for blanks": _head(f"GET\t{WHO}\tHTTP/1.1"),
    "blank in the target": _head(f"GET {WHO} {WHO} HTTP/1.1"),
    "blank in front": b" " + _head(_GOOD),
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/0.9 with an empty line": f"GET {WHO}\r\n\r\n".encode(),
    "HTTP/1.2": _head(f"GET {WHO} HTTP/1.2"),
    "HTTP/2.0 in a request line": _head(f"GET {WHO} HTTP/2.0"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "TLS ClientHello": CLIENT_HELLO,
    "SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_switch_answers_400(lab, marks, name):
    before = counters(lab)
    answer, port = _ask(lab, REFUSED[name])
    assert (answer.status, answer.body) == (400, MALFORMED_LINE), answer
    counted = grown(lab, before)
    assert (counted["errors_400"], counted["drop_request_malformed"]) == (1, 1), counted
    assert "handoffs" not in counted and "resets_sent" not in counted, counted
    assert not _requests(lab, marks, port)


def test_a_line_that_never_ends(lab, marks):
    """More than 32 KB."""
    before = counters(lab)
    answer, port = _ask(lab, b"GET /" + b"a" * 40_000)
    assert answer.status == 431
    counted = grown(lab, before)
    assert counted["errors_431"] == 1 and "handoffs" not in counted, counted
    assert not _requests(lab, marks, port)


@pytest.mark.parametrize("name", ["two Host fields", "obs-fold", "bare CR in a field", "NUL in a field", "HTTP/1.2"])
def test_pieces_are_read_as_the_whole(lab, raw, marks, name):
    """What is refused in one segment is refused in many, at the latest when its line is whole."""
    data, before = REFUSED[name], counters(lab)
    connection = raw.connect()
    connection.send_all(data, piece_bytes=7)
    end = connection.read()
    assert end.by == "FIN" and answer_of(end.data).status == 400, end
    counted = grown(lab, before)
    assert (counted["errors_400"], counted["drop_request_malformed"]) == (1, 1) and "handoffs" not in counted, counted
    assert not _requests(lab, marks, connection.port)


# --- one place, two versions --------------------------------------------------------------------------------

ONE, OTHER = request(WHO, close=True), request(f"/b/{BACKEND}/xyz", close=True)
assert len(ONE) == len(OTHER)


def _served_once(lab, marks, connection, wanted=f"GET {WHO} HTTP/1.1"):
    """One server has read one request of the connection, and it is `wanted`."""
    eventually(lambda: _requests(lab, marks, connection.port), timeout_s=2, what="a line in a server's log")
    time.sleep(0.3)
    assert _requests(lab, marks, connection.port) == [(BACKEND, wanted, 200)]


def test_a_bad_checksum_and_a_good_one(lab, raw, marks):
    """The first version is damaged and would go to backend2; the second is sound. Only that is read, by anybody."""
    before, connection = counters(lab), raw.connect()
    connection.send(request("/b/backend2/who", close=True), damaged=True)
    assert not connection.segments(0.1), "nobody acknowledges what is damaged"
    connection.send(ONE)
    end = connection.read()
    assert end.by == "FIN" and end.data.endswith(b"\r\n\r\nbackend1\n"), end
    counted = grown(lab, before)
    assert (counted["drop_tcp_checksum"], counted["handoffs"]) == (1, 1), counted
    _served_once(lab, marks, connection)


def test_a_bad_checksum_within_a_head(lab, raw, marks):
    before, connection = counters(lab), raw.connect()
    connection.send(ONE[:20])
    connection.send(OTHER[20:], at=20, damaged=True)
    assert [segment.ack for segment in connection.segments(0.2)] == [20], "the damaged piece is not acknowledged"
    connection.send(ONE[20:], at=20)
    assert connection.read().data.endswith(b"\r\n\r\nbackend1\n")
    counted = grown(lab, before)
    assert (counted["drop_tcp_checksum"], counted["handoffs"]) == (1, 1), counted
    _served_once(lab, marks, connection)


@pytest.mark.parametrize("ahead", [False, True], ids=["behind", "ahead"])
def test_two_versions_within_a_head(lab, raw, marks, ahead):
    """Two segments overlap and differ there; with a gap in front of them, too. The switch does not choose one."""
    before, connection = counters(lab), raw.connect()
    connection.send(ONE[:12])
    at = 14 if ahead else 12
    connection.send(ONE[at:40], at=at)
    connection.send(OTHER[16:], at=16)
    end = connection.read()
    assert end.by == "FIN" and (answer_of(end.data).status, answer_of(end.data).body) == (400, DISPUTED_LINE), end
    counted = grown(lab, before)
    assert (counted["errors_400"], counted["drop_request_disputed"]) == (1, 1) and "handoffs" not in counted, counted
    assert not _requests(lab, marks, connection.port)


@pytest.mark.parametrize("pieces", [1, 2])
def test_another_version_after_a_handoff_that_was_lost(lab, raw, marks, pieces):
    """The server has nothing yet and would take whatever comes first: it must be what the switch has read."""
    before, connection = counters(lab), raw.connect()
    with cut_off(lab, BACKEND):
        connection.send_all(ONE, piece_bytes=-(-len(ONE) // pieces))
        time.sleep(0.05)
        connection.send(OTHER)
        time.sleep(0.05)
    connection.send(OTHER)
    connection.send(OTHER[:30])
    time.sleep(0.1)
    assert grown(lab, before)["drop_head_changed"] >= 3
    if pieces == 1:  # nobody has acknowledged it: it is the client's to send again
        assert not _requests(lab, marks, connection.port)
        connection.send(ONE)
    end = connection.read()
    assert end.by == "FIN" and end.data.endswith(b"\r\n\r\nbackend1\n"), end
    assert grown(lab, before)["handoffs"] == 1
    _served_once(lab, marks, connection)


def test_another_version_after_the_answer(lab, raw, marks):
    """What the server's kernel has, it does not take again; the connection goes on."""
    connection = raw.connect()
    first = request(WHO)
    connection.send(first)
    assert connection.read(until=b"backend1\n").data
    connection.send(request(f"/b/{BACKEND}/xyz"))
    time.sleep(0.1)
    connection.send(ONE, at=len(first))
    assert connection.read(until=b"\r\n\r\nbackend1\n").data
    eventually(lambda: len(_requests(lab, marks, connection.port)) == 2, timeout_s=2, what="two lines in the log")
    assert _requests(lab, marks, connection.port) == [(BACKEND, f"GET {WHO} HTTP/1.1", 200)] * 2


# --- flags and numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pointer", [0, 5])
@pytest.mark.parametrize("held", [0, 20])
def test_urgent_data(lab, raw, marks, pointer, held):
    """A kernel may leave the urgent byte out of the stream, a parser does not: nobody gets such a segment to read."""
    before, connection = counters(lab), raw.connect()
    if held:
        connection.send(ONE[:held])
    connection.send(OTHER[held:], at=held, flags="PAU", urgent=pointer)
    assert [segment.ack for segment in connection.segments(0.2)] == ([held] if held else []), "not acknowledged"
    connection.send(ONE[held:], at=held)
    assert connection.read().data.endswith(b"\r\n\r\nbackend1\n")
    counted = grown(lab, before)
    assert (counted["drop_tcp_flags"], counted["handoffs"]) == (1, 1), counted
    _served_once(lab, marks, connection)


@pytest.mark.parametrize("ack", [1, -1, 1000])
def test_a_piece_that_acknowledges_what_nobody_sent(lab, raw, marks, ack):
    """The server's kernel would not take it, so that the switch may not read it."""
    before, connection = counters(lab), raw.connect()
    connection.send(ONE[:20])
    connection.send(OTHER[20:], at=20, ack=ack)
    assert [segment.ack for segment in connection.segments(0.2)] == [20]
    connection.send(ONE[20:], at=20)
    assert connection.read().data.endswith(b"\r\n\r\nbackend1\n")
    counted = grown(lab, before)
    assert (counted["drop_head_ack"], counted["handoffs"]) == (1, 1), counted
    _served_once(lab, marks, connection)


def test_bytes_behind_the_fin(lab, raw, marks):
    """A head that ends within the connection's last segment, and more behind it: the FIN is the end."""
    before, connection = counters(lab), raw.connect()
    connection.send(ONE[:20], flags="PAF")
    end = connection.read()
    assert end.by == "FIN" and answer_of(end.data).status == 400, end
    connection.send(ONE[20:], at=20)
    time.sleep(0.1)
    counted = grown(lab, before)
    assert counted["errors_400"] == 1 and "handoffs" not in counted, counted
    assert not _requests(lab, marks, connection.port)
