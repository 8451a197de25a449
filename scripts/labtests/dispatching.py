"""Rules and pools of one test, in a lab whose switch is told of them while it runs."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from helpers import ask, eventually, get, told

from lab_lib.topology import TLS_PORT, VIP, VIP_NAME, VIP_PORT

BACKENDS = ("backend1", "backend2", "backend3")
TLS_NAME = "secure"
_VIPS = [{"name": VIP_NAME, "address": VIP, "port": VIP_PORT},
         {"name": TLS_NAME, "address": VIP, "port": TLS_PORT, "inspect": "tls"}]
_POOLS = [{"name": name, "backends": [name]} for name in BACKENDS] + [{"name": "all", "backends": list(BACKENDS)}]
# What the lab of these tests has in force when no test says otherwise.
OWN = {"vip": _VIPS, "pool": _POOLS,
       "rule": [{"vip": VIP_NAME, "pool": "all"}, {"vip": TLS_NAME, "pool": "all"}]}

# All there are, each with settings if it needs some.
POLICIES = [
    "round-robin", "weighted-round-robin", "least-connections", "weighted-least-load", "two-choices", "fastest-response",
    "client-hash", "url-hash", "lard", "lard-replicated", "cap", "racc", "content-and-load",
    {"name": "least-traffic", "count": "bytes"}, {"name": "maglev", "hash": "path"},
    {"name": "maglev", "hash": "path", "bounded_load_percent": 125},
]


def one_each(*conditions, **sections):
    """Rules that send what each condition describes to a backend of its own, and the rest to the last."""
    rules = [{**condition, "pool": backend} for condition, backend in zip(conditions, BACKENDS)]
    return {"rule": [*rules, {"pool": BACKENDS[-1]}], **sections}


def pool_of_all(policy, **settings):
    """One pool of all backends, under this policy, for everything."""
    return {"pool": [*_POOLS[:-1], {"name": "all", "backends": list(BACKENDS), "policy": policy, **settings}]}


@contextmanager
def applied(lab, *changes):
    """These sections in force in place of the lab's own, for a while."""
    sections = dict(OWN)
    for change in changes:
        sections.update(change)
    apply(lab, sections)
    try:
        yield
    finally:
        apply(lab, OWN)


def apply(lab, sections):
    """Put these sections over the lab's configuration and have the switch read it again."""
    lab.write_switch_config(sections)
    lab.batonctl("config", "reload")
    usable(lab)


def usable(lab, names=BACKENDS):
    """Wait until these backends get new connections."""
    def are():
        return all(b["usable"] for b in told(lab, "backends") if b["name"] in names)
    eventually(are, timeout_s=5, what=f"{names} are usable")


def served(lab, paths, *, at_a_time=1, **options):
    """How many of these requests each backend answered, all of them with 200."""
    with ThreadPoolExecutor(at_a_time) as pool:
        answers = list(pool.map(lambda path: get(lab, path, **options), paths))
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.backend for answer in answers)


def weighted(*weights):
    """The backends with these weights, as a pool lists them."""
    return [{"name": name, "weight": weight} for name, weight in zip(BACKENDS, weights)]


@contextmanager
def drained(lab, backend):
    """Within, a backend gets nothing new."""
    lab.batonctl("backends", "drain", backend)
    try:
        yield
    finally:
        lab.batonctl("backends", "enable", backend)
        usable(lab)


class Crowd:
    """Clients that stay after their answer. Nobody else has a connection when the first comes, nor when all have left."""

    def __init__(self, lab):
        self._lab, self._connections = lab, []

    def __enter__(self):
        self._wait_for_none()
        return self

    def __exit__(self, *_):
        self.leave()

    def join(self, path, **options):
        """One more client asks; returns which backend answered. One that is refused goes again."""
        connection = self._lab.connect("client1")
        answer = ask(connection, path, **options)
        if answer.status == 200:
            self._connections.append(connection)
        else:
            connection.close()
        return answer.backend

    def leave(self):
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._wait_for_none()

    def _wait_for_none(self):
        """Until the switch counts no connection, which policies see at once, and agents report none, some of which see later."""
        def counts():
            return {b["name"]: (b["connections"], b["load"]["established"]) for b in told(self._lab, "backends")}
        eventually(lambda: set(counts().values()) == {(0, 0)}, timeout_s=5, what=lambda: f"nobody is left: {counts()}")
