"""A client may take its time between handshake and request: no state waits for it, its cookie lasts."""

from conftest import PAUSE_S
from helpers import ask


def test_request_100_s_after_the_handshake(waiting_lab, answer_after_pause):
    flows, answer = answer_after_pause.result(timeout=PAUSE_S + 10)
    assert flows == 0, "no state waits for it"
    assert answer.status == 200 and answer.backend == "backend1"


def test_request_after_the_switch_was_restarted(waiting_lab):
    """The cookie is all there is, and the key file outlives the process that issued it."""
    with waiting_lab.connect("client1") as connection:
        waiting_lab.kill_switch()
        waiting_lab.start_switch()
        waiting_lab.wait_served_by("backend1")
        assert ask(connection, "/who").backend == "backend1"
