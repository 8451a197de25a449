"""What several lab tests do: ask over HTTP, look at sockets, read the switch's numbers."""

import hashlib
import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass

from lab_lib.topology import VIP, VIP_PORT


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: dict
    body: bytes

    @property
    def backend(self):
        return self.headers.get("x-backend")

    @property
    def sha256(self):
        return hashlib.sha256(self.body).hexdigest()


def request(path, *, close=False, version="1.1", headers=()):
    """The bytes of a GET request."""
    lines = [f"GET {path} HTTP/{version}", f"Host: {VIP}", *headers]
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer_of(data):
    """The answer that starts with these bytes, as far as they go."""
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Answer(int(status_line.split()[1]), headers, body)


def read_to_end(connection):
    """Everything that comes until the other side has finished. A connection that is reset fails the test."""
    data = b""
    while received := connection.recv(65536):
        data += received
    return data


def read_answer(connection):
    """Read one answer with a Content-Length from a socket, and not a byte more."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            raise EOFError(f"connection closed within the head of an answer: {data!r}")
        data += received
    answer = answer_of(data)
    body, length = answer.body, int(answer.headers["content-length"])
    pieces, missing = [body], length - len(body)
    while missing > 0:
        received = connection.recv(min(missing, 1 << 20))
        if not received:
            raise EOFError(f"connection closed {missing} bytes before the end of an answer of {length}")
        pieces.append(received)
        missing -= len(received)
    assert missing == 0, f"{-missing} bytes more than the Content-Length of {length}"
    return Answer(answer.status, answer.headers, b"".join(pieces))


def ask(connection, path, **options):
    """Send a GET on an open connection and read its answer."""
    connection.sendall(request(path, **options))
    return read_answer(connection)


def get(lab, path, *, client="client1", address=VIP, **options):
    """Fetch a path on a connection of its own."""
    with lab.connect(client, address) as connection:
        return ask(connection, path, close=True, **options)


def curl(lab, *arguments, client="client1", timeout_s=60):
    """Run curl on a client; returns its output. A transfer that fails fails the test."""
    return lab.run(client, ["curl", "-sS", "--fail", "--max-time", str(timeout_s), *arguments],
                   timeout_s=timeout_s + 10).stdout


def told(lab, *question):
    """What `batonctl ... --json` answers."""
    return json.loads(lab.batonctl(*question, "--json").stdout)


def status(lab):
    """`batonctl status --json`."""
    return told(lab, "status")


def counters(lab):
    """`batonctl counters --json` as {name: value}."""
    return {entry["name"]: entry["value"] for entry in told(lab, "counters")}


# What grows by itself, whatever a test does.
_RESTLESS = re.compile(r"rx_|lcore_|arp_|drop_not_ours|drop_arp")


def grown(lab, before):
    """What was counted since `before` (of `counters`): {name: how much}, without what always grows."""
    return {name: value - before.get(name, 0) for name, value in counters(lab).items()
            if value != before.get(name, 0) and not _RESTLESS.match(name)}


def flow_count(lab):
    """Entries in the flow tables."""
    return status(lab)["flows"]


def flow_of(lab, connection):
    """The switch's flow of a client's connection, or None."""
    address, port = connection.getsockname()
    flows = [f for f in told(lab, "flows", "--limit", "10000")["flows"]
             if (f["tuple"]["client"], f["tuple"]["client_port"]) == (address, port)]
    assert len(flows) <= 1, flows
    return flows[0] if flows else None


def backend_of(lab, name):
    """What the switch says of one backend."""
    return next(backend for backend in told(lab, "backends") if backend["name"] == name)


def eventually(condition, *, timeout_s, what):
    """Wait for something that must come to pass within a stated time; returns what it saw. `what`: text, or makes it."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what() if callable(what) else what}"
        time.sleep(0.05)


@contextmanager
def setting(lab, host, name, value):
    """A sysctl of a host, changed for a while."""
    was = lab.run(host, ["sysctl", "-n", name]).stdout.strip()
    lab.run(host, ["sysctl", "-qw", f"{name}={value}"])
    try:
        yield
    finally:
        lab.run(host, ["sysctl", "-qw", f"{name}={was}"])


def log_mark(lab, backend):
    """A position in a backend's access log: pass it to log_since."""
    return len(lab.access_log(backend))


def log_since(lab, backend, mark):
    """The access log's entries after a mark: those the server has written by now."""
    return lab.access_log(backend)[mark:]


def logged(lab, backend, mark, wanted, count=1):
    """Wait until `count` entries after a mark fulfil `wanted`, and return them. nginx logs a moment after it answers.

    Returns at once when there are as many: ask later for entries that must not be there.
    """
    def found():
        return [entry for entry in log_since(lab, backend, mark) if wanted(entry)]
    eventually(lambda: len(found()) >= count, timeout_s=2, what=f"{count} such lines in the log of {backend}")
    return found()


@contextmanager
def cut_off(lab, backend):
    """Within, nothing passes between a backend and the data network. Its own interface does not notice."""
    port = ["ip", "link", "set", f"p-{backend}"]
    lab.run("fabric", [*port, "nomaster"])
    try:
        yield
    finally:
        lab.run("fabric", [*port, "master", "fabric"])


def sockets(lab, backend, filter_text=f"src {VIP}"):
    """Sockets of a backend as `ss` shows them, all states but LISTEN: dicts with state, peer and info."""
    output = lab.run(backend, ["ss", "-Htanio", *filter_text.split()]).stdout
    found = []
    for line in re.sub(r"\n[ \t]+", " ", output).splitlines():
        fields = line.split()
        if fields[0] != "LISTEN":
            found.append({"state": fields[0], "peer": fields[4], "info": " ".join(fields[5:])})
    return found


def socket_of(lab, backend, connection):
    """The backend's end of a client's connection."""
    address, port = connection.getsockname()
    found = [s for s in sockets(lab, backend) if s["peer"] == f"{address}:{port}"]
    assert len(found) == 1, f"sockets of {address}:{port} on {backend}: {found}"
    return found[0]


@contextmanager
def resets_swallowed(lab, backend):
    """A firewall on a backend that lets no RST of its servers out. Exactly one must try meanwhile."""
    lab.run(backend, ["nft", "-f", "-"], stdin="table inet mute {\nchain out {\n"
            "type filter hook output priority 0; policy accept;\n"
            f"ip saddr {VIP} tcp sport {VIP_PORT} tcp flags & rst == rst counter drop\n}}\n}}\n")
    try:
        yield
    finally:
        rules = lab.run(backend, ["nft", "list", "table", "inet", "mute"]).stdout
        lab.run(backend, ["nft", "delete", "table", "inet", "mute"])
    assert "packets 1 " in rules, rules
