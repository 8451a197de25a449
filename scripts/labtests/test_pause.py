"""A client may take its time between handshake and request: no state waits for it, its cookie lasts."""

import time

from conftest import PAUSE_S
from helpers import ask


def test_request_100_s_after_the_handshake(paused_connection):
    connection, connected = paused_connection
    time.sleep(max(0.0, connected + PAUSE_S - time.monotonic()))
    answer = ask(connection, "/who")
    assert answer.status == 200 and answer.backend
