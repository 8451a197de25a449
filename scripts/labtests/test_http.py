"""Requests of every shape reach a server and come back whole."""

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROUTED_BACKEND
from helpers import ask, curl, flow_of, get, log_mark, logged, request, status

from lab_lib.content import sha256_of
from lab_lib.topology import VIP

PARALLEL = 200


@pytest.mark.parametrize("name", ["1k", "64k", "1m", "50m"])
@pytest.mark.parametrize("backend", ["backend1", ROUTED_BACKEND])
def test_a_file_arrives_byte_for_byte(lab, tmp_path, name, backend):
    destination = tmp_path / "file"
    curl(lab, "-o", destination, lab.url(f"/b/{backend}/files/{name}"))
    assert sha256_of(destination) == sha256_of(lab.content_dir / name)


def test_the_server_sees_the_true_client(lab):
    mark = log_mark(lab, "backend1")
    with lab.connect("client2") as connection:
        address, port = connection.getsockname()
        assert ask(connection, "/files/1k").backend == "backend1"
        flow = flow_of(lab, connection)
    entries = logged(lab, "backend1", mark, lambda e: (e["client"], e["port"]) == (address, port))
    assert [e["request"] for e in entries] == ["GET /files/1k HTTP/1.1"]
    assert entries[0]["server"] == VIP, "the server sees the VIP as its own address"
    assert address == lab.address_of("client2")
    assert (flow["backend"], flow["tuple"]["vip"]) == ("backend1", VIP), flow


def test_http_1_0_closes_after_its_answer(lab):
    with lab.connect("client1") as connection:
        answer = ask(connection, "/files/4k", version="1.0")
        assert answer.status == 200 and answer.sha256 == sha256_of(lab.content_dir / "4k")
        assert connection.recv(1) == b"", "the server closes"


def test_http_1_1_close(lab):
    with lab.connect("client1") as connection:
        answer = ask(connection, "/files/4k", close=True)
        assert answer.status == 200 and answer.sha256 == sha256_of(lab.content_dir / "4k")
        assert connection.recv(1) == b"", "the server closes"


def test_keep_alive_is_one_handoff(lab):
    before = status(lab)["handoffs"]
    mark = log_mark(lab, "backend1")
    with lab.connect("client1") as connection:
        port = connection.getsockname()[1]
        for _ in range(20):
            assert ask(connection, "/files/4k").sha256 == sha256_of(lab.content_dir / "4k")
    entries = logged(lab, "backend1", mark, lambda e: e["port"] == port, 20)
    assert [e["request_number"] for e in entries] == list(range(1, 21))
    assert len({e["connection"] for e in entries}) == 1
    assert status(lab)["handoffs"] == before + 1


def test_every_connection_is_one_handoff(lab):
    before, mark = status(lab)["handoffs"], log_mark(lab, "backend1")
    for _ in range(20):
        assert get(lab, "/files/1k").status == 200
    assert status(lab)["handoffs"] == before + 20
    entries = logged(lab, "backend1", mark, lambda e: True, 20)
    assert len({e["port"] for e in entries}) == len({e["connection"] for e in entries}) == len(entries) == 20


def test_pipelined_requests_are_answered_in_order(lab):
    with lab.connect("client1") as connection:
        connection.sendall(request("/files/1k") + request("/files/4k") + request("/who", close=True))
        data = b""
        while chunk := connection.recv(1 << 16):
            data += chunk
    first, second = (lab.content_dir / name for name in ("1k", "4k"))
    assert data.count(b"HTTP/1.1 200 OK") == 3
    assert data.index(first.read_bytes()) < data.index(second.read_bytes()) < data.rindex(b"\r\n\r\n")


@pytest.mark.parametrize("backend", ["backend2", ROUTED_BACKEND])
def test_post_of_20_mb(lab, tmp_path, backend):
    body = secrets.token_bytes(20 * 1024 * 1024)
    source = tmp_path / "body"
    source.write_bytes(body)
    output = curl(lab, "-i", "--data-binary", f"@{source}", lab.url(f"/b/{backend}/upload"))
    headers = dict(line.lower().split(": ", 1) for line in output.splitlines() if ": " in line)
    assert headers["x-upload-bytes"] == str(len(body))
    stored = lab.backend_dir(backend) / "uploads" / headers["x-upload-id"]
    assert sha256_of(stored) == hashlib.sha256(body).hexdigest()
    stored.unlink()


def test_200_parallel_connections(lab):
    """All handshakes first, then all requests: 200 connections are open at the same time."""
    mark = log_mark(lab, "backend1")
    connections = [lab.connect("client1") for _ in range(PARALLEL)]
    try:
        ports = {connection.getsockname()[1] for connection in connections}
        with ThreadPoolExecutor(PARALLEL) as pool:
            answers = list(pool.map(lambda connection: ask(connection, "/files/64k"), connections))
    finally:
        for connection in connections:
            connection.close()
    assert {answer.sha256 for answer in answers} == {sha256_of(lab.content_dir / "64k")}
    assert {e["port"] for e in logged(lab, "backend1", mark, lambda e: e["port"] in ports, PARALLEL)} == ports
