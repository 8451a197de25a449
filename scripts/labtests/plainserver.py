"""A server in this process that does what nginx does not: answers the half-closed, takes its time, resets."""

import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress

from lab_lib.topology import VIP_PORT

BODY_BYTES = 10 << 20
THINKING_S = 5
# SO_LINGER with a time of 0: close() resets.
RESET = struct.pack("ii", 1, 0)


def body():
    """What it answers with."""
    return bytes(range(256)) * (BODY_BYTES // 256)


@contextmanager
def in_place_of_nginx(lab, backend):
    """Serve on a backend: `/think` after THINKING_S, `/reset` with half an answer and a RST, all else at once."""
    lab.stop_nginx(backend)
    listener = lab.socket(backend, socket.AF_INET, socket.SOCK_STREAM)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", VIP_PORT))
        listener.listen(64)
        accepting = threading.Thread(target=_accept, args=(listener,), daemon=True)
        accepting.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    lab.start_nginx(backend)


def _accept(listener):
    with suppress(OSError):  # of its shutdown
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection):
    with connection, suppress(OSError):  # health probes and clients go as they like
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65536)
            if not received:
                return
            head += received
        path = head.split()[1]
        if path.endswith(b"/think"):
            time.sleep(THINKING_S)
        answer = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES + body()
        if path.endswith(b"/reset"):
            connection.sendall(answer[:BODY_BYTES // 2])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        else:
            connection.sendall(answer)
            connection.recv(1)  # until the client has closed
