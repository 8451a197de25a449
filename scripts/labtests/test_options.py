"""Clients that do without a TCP option are served, and the server's socket knows which one."""

import socket

import pytest
from conftest import ROUTED_BACKEND
from helpers import ask, curl, socket_of

from lab_lib.content import sha256_of

CLIENT = "client2"
BACKENDS = ["backend1", ROUTED_BACKEND]


@pytest.fixture
def client_without(lab):
    """Switches options of the client's kernel off, and on again after the test."""
    changed = []

    def switch_off(option):
        lab.run(CLIENT, ["sysctl", "-qw", f"net.ipv4.{option}=0"])
        changed.append(option)
    yield switch_off
    for option in changed:
        lab.run(CLIENT, ["sysctl", "-qw", f"net.ipv4.{option}=1"])


def _words(lab, backend, *options):
    """What `ss` says of a connection's server side, after a request on it was answered."""
    with lab.connect(CLIENT, options=options) as connection:
        assert ask(connection, f"/b/{backend}/who").backend == backend
        return socket_of(lab, backend, connection)["info"].split()


def _download(lab, tmp_path, backend):
    destination = tmp_path / "file"
    curl(lab, "-o", destination, lab.url(f"/b/{backend}/files/10m"), client=CLIENT)
    assert sha256_of(destination) == sha256_of(lab.content_dir / "10m")


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_options_of_an_ordinary_client_survive_the_handoff(lab, backend):
    words = _words(lab, backend)
    assert "ts" in words and "sack" in words
    assert any(word.startswith("wscale:") and word.endswith(",7") for word in words), words


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("option, word", [("tcp_timestamps", "ts"), ("tcp_sack", "sack"),
                                          ("tcp_window_scaling", "wscale:")])
def test_one_option_off(lab, tmp_path, client_without, backend, option, word):
    client_without(option)
    words = _words(lab, backend)
    assert not any(w == word or (word.endswith(":") and w.startswith(word)) for w in words), words
    others = {"ts", "sack"} - {word}
    assert others <= set(words), words
    _download(lab, tmp_path, backend)


def test_all_options_off(lab, tmp_path, client_without):
    for option in ("tcp_timestamps", "tcp_sack", "tcp_window_scaling"):
        client_without(option)
    words = _words(lab, "backend1")
    assert not {"ts", "sack"} & set(words) and not any(w.startswith("wscale:") for w in words), words
    _download(lab, tmp_path, "backend1")


@pytest.mark.parametrize("backend", BACKENDS)
def test_client_mss_536(lab, backend):
    small = (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    words = _words(lab, backend, small)
    # 12 bytes of each segment go to the timestamp option.
    assert "mss:524" in words, words
    with lab.connect(CLIENT, options=[small]) as connection:
        answer = ask(connection, f"/b/{backend}/files/1m")
    assert answer.sha256 == sha256_of(lab.content_dir / "1m")
