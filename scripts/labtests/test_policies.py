"""Each policy under real load: who gets how much, and what it makes of reports, weights and keys."""

import signal
import ssl
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from dispatching import BACKENDS, TLS_NAME, applied, pool_of_all, usable
from helpers import answer_of, counters, eventually, get, grown, read_to_end, request, told

from lab_lib.topology import TLS_PORT, VIP, VIP_NAME

REQUESTS = 120
STICKY_BY_SESSION = {"pool": [{"name": "plain", "backends": list(BACKENDS)},
                              {"name": "tls", "backends": list(BACKENDS), "sticky": "tls-session"}],
                     "rule": [{"vip": TLS_NAME, "pool": "tls"}, {"pool": "plain"}]}


def served(lab, paths, *, at_a_time=1, **options):
    """How many of these requests each backend answered, all of them with 200."""
    with ThreadPoolExecutor(at_a_time) as pool:
        answers = list(pool.map(lambda path: get(lab, path, **options), paths))
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.backend for answer in answers)


def weighted(*weights):
    return [{"name": name, "weight": weight} for name, weight in zip(BACKENDS, weights)]


def test_round_robin_is_even(dispatch_lab):
    with applied(dispatch_lab, pool_of_all("round-robin")):
        counts = served(dispatch_lab, ["/who"] * REQUESTS)
    assert counts == {name: REQUESTS // 3 for name in BACKENDS}


def test_weighted_round_robin_is_exact_per_cycle(dispatch_lab):
    with applied(dispatch_lab, pool_of_all("weighted-round-robin", backends=weighted(1, 2, 3))):
        counts = served(dispatch_lab, ["/who"] * REQUESTS)
    assert counts == dict(zip(BACKENDS, (REQUESTS // 6, REQUESTS // 3, REQUESTS // 2)))


@pytest.mark.parametrize("policy", ["least-connections", "two-choices", "weighted-least-load"])
def test_policies_that_count_connections_avoid_who_has_many(dispatch_lab, policy):
    lab = dispatch_lab
    with applied(lab, pool_of_all(policy), {"rule": [{"path_prefix": "/b/backend1/", "pool": "backend1"},
                                                     {"pool": "all"}]}):
        held = [lab.connect("client1") for _ in range(60)]
        try:
            for connection in held:
                connection.sendall(b"GET /b/backend1/slow/1m HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: next(b for b in told(lab, "backends") if b["name"] == "backend1")["load"]["established"]
                       >= 60, timeout_s=5, what="backend1 reports its connections")
            counts = served(lab, ["/who"] * 30, client="client2")
        finally:
            for connection in held:
                connection.close()
    assert counts["backend1"] <= (10 if policy == "two-choices" else 0), counts
    assert counts["backend2"] and counts["backend3"], counts


@pytest.mark.parametrize("policy", [
    {"name": "maglev", "hash": "path", "bounded_load_percent": 200}, "url-hash", "lard",
])
def test_policies_by_content_keep_a_path_at_its_backend(dispatch_lab, policy):
    """Which for each path is settled once: asked again one after the other, it is the same, and all backends take part."""
    paths = [f"/db/page{number}" for number in range(24)]
    with applied(dispatch_lab, pool_of_all(policy)):
        first = {path: get(dispatch_lab, path).backend for path in paths}
        again = {path: get(dispatch_lab, path).backend for path in paths}
    assert again == first
    assert set(first.values()) == set(BACKENDS), Counter(first.values())


def test_a_client_hash_keeps_a_client_at_its_backend(dispatch_lab):
    with applied(dispatch_lab, pool_of_all("client-hash")):
        for client in ("client1", "client2"):
            assert len(served(dispatch_lab, ["/who"] * 12, client=client)) == 1


def test_cap_takes_turns_in_each_class(dispatch_lab):
    classes = {"class": [{"name": "video", "priority": 1}, {"name": "db", "priority": 1}],
               "rule": [{"path_prefix": "/video/", "class": "video", "pool": "all"},
                        {"path_prefix": "/db/", "class": "db", "pool": "all"}, {"pool": "all"}]}
    with applied(dispatch_lab, pool_of_all("cap"), classes):
        # One of the one, two of the other, in turn: each class is spread evenly by itself.
        answers = [(path, get(dispatch_lab, path).backend) for path in ("/video/1k", "/db/1", "/db/2") * 12]
    for kind, expected in (("/video", 4), ("/db", 8)):
        counts = Counter(backend for path, backend in answers if path.startswith(kind))
        assert counts == {name: expected for name in BACKENDS}, (kind, counts)


@pytest.mark.parametrize("policy", [
    {"name": "least-traffic", "count": "bytes"}, {"name": "least-traffic", "count": "packets"}, "fastest-response",
    "lard-replicated", "racc", "content-and-load",
])
def test_every_other_policy_serves_under_load_and_uses_its_backends(dispatch_lab, policy):
    paths = [f"/{kind}/{size}" for size in ("1k", "4k", "16k") for kind in ("files", "video", "db", "b/backend1/files")] * 20
    with applied(dispatch_lab, pool_of_all(policy)):
        counts = served(dispatch_lab, paths, at_a_time=8)
    assert len(counts) > 1, counts


def test_what_drains_gets_nothing_under_any_policy(dispatch_lab):
    lab = dispatch_lab
    for policy in ("round-robin", "least-connections", {"name": "maglev", "hash": "path"}, "lard", "cap", "racc"):
        with applied(lab, pool_of_all(policy)):
            lab.batonctl("backends", "drain", "backend2")
            counts = served(lab, [f"/db/{number}" for number in range(30)])
            assert not counts["backend2"] and sum(counts.values()) == 30, (policy, counts)
            lab.batonctl("backends", "enable", "backend2")


def test_stale_reports_are_no_reports(dispatch_lab):
    """Agents that are halted for a moment, too short to make their backends unusable: the switch's own counts decide."""
    lab = dispatch_lab
    with applied(lab, pool_of_all({"name": "least-traffic", "count": "bytes"})):
        def decided_without():
            before = counters(lab)
            for name in BACKENDS:
                lab.processes.signal(f"agent@{name}", signal.SIGSTOP)
            try:
                time.sleep(0.42)  # a report is fresh for 350 ms, an agent silent after 600
                answer = get(lab, "/who")
            finally:
                for name in BACKENDS:
                    lab.processes.signal(f"agent@{name}", signal.SIGCONT)
            assert answer.status in (200, 503), answer
            usable(lab)
            return answer.status == 200 and grown(lab, before).get("stale_reports")
        eventually(decided_without, timeout_s=10, what="a choice without reports")

        def decided_with():
            before = counters(lab)
            return get(lab, "/who").status == 200 and "stale_reports" not in grown(lab, before)
        eventually(decided_with, timeout_s=5, what="a choice by fresh reports again")


def test_overload_refuses_the_lowest_class_first(dispatch_lab):
    lab = dispatch_lab
    classes = {
        "backend": [{"name": host.name, "address": host.data_address, "connections_max": 20}
                    for host in lab.plan.backends],
        "class": [{"name": "gold", "priority": 9}, {"name": "lead", "priority": 1}],
        "overload": {"begin_percent": 50},
        "rule": [{"path_prefix": "/files/", "class": "gold", "pool": "all"}, {"class": "lead", "pool": "all"}],
    }
    with applied(lab, classes):
        held = [lab.connect("client1") for _ in range(40)]  # two thirds of all there is room for
        try:
            for connection in held:
                connection.sendall(b"GET /files/1k HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: sum(b["load"]["established"] for b in told(lab, "backends")) >= 40, timeout_s=5,
                       what="the connections are reported")

            def is_known():
                """To the lcore: reports reach it up to 50 ms later than they can be seen."""
                outcome = told(lab, "route", "--vip", VIP_NAME, "GET", f"http://{VIP}/who")["outcome"]
                return outcome.get("answer", {}).get("status") == 503
            eventually(is_known, timeout_s=1, what="the lcore knows them")
            lead, gold = get(lab, "/who", client="client2"), get(lab, "/files/1k", client="client2")
            assert (lead.status, gold.status) == (503, 200)
            assert b"busy" in lead.body
        finally:
            for connection in held:
                connection.close()

        def served_again():
            return get(lab, "/who", client="client2").status == 200
        eventually(served_again, timeout_s=5, what="the lowest class is served again")


def test_a_resumed_tls_session_reaches_the_server_that_made_it(dispatch_lab):
    """TLS 1.2 without tickets: the agent learns the id from the ServerHello. Each session is made while the server its
    client's address belongs to drains: later, by the address alone, nobody would find who made it."""
    lab = dispatch_lab
    with applied(lab, STICKY_BY_SESSION):
        context = tls_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_TICKET
        before = counters(lab)
        (owner, _), _ = over_tls(lab, context)
        learned(lab, before, 1)
        for _ in range(4):
            before = counters(lab)
            with drained(lab, owner):
                (maker, resumed), session = over_tls(lab, context)
            assert maker != owner and not resumed
            learned(lab, before, 1)
            for _ in range(4):
                assert over_tls(lab, context, session)[0] == (maker, True)
            assert over_tls(lab, context)[0] == (owner, False), "without a session, the address decides"
            learned(lab, before, 6)
            after = grown(lab, before)
            assert (after["sessions_found"], after["sessions_unknown"]) == (4, 2), after


def test_tls_1_3_clients_keep_to_the_server_their_address_belongs_to(dispatch_lab):
    """Each shows an id, as browsers do: it stands for nothing."""
    lab = dispatch_lab
    with applied(lab, STICKY_BY_SESSION):
        before = counters(lab)
        assert len({over_tls(lab, tls_context())[0] for _ in range(6)}) == 1
        after = grown(lab, before)
        assert after["sessions_unknown"] == 6 and "sessions_learned" not in after, after


def tls_context():
    """A client that takes the lab's own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextmanager
def drained(lab, backend):
    """Within, a backend gets nothing new."""
    lab.batonctl("backends", "drain", backend)
    try:
        yield
    finally:
        lab.batonctl("backends", "enable", backend)
        usable(lab)


def learned(lab, before, count):
    """Wait until so many sessions were learned since `before`: one by each handshake."""
    def so_many():
        return grown(lab, before).get("sessions_learned", 0) == count
    eventually(so_many, timeout_s=2, what=lambda: f"{count} ids are learned: {grown(lab, before)}")


def over_tls(lab, context, session=None):
    """A request over TLS; returns who answered and whether a session was resumed, and the session."""
    with lab.connect("client1", port=TLS_PORT) as plain, context.wrap_socket(plain, session=session) as connection:
        connection.sendall(request("/who", close=True))
        answer = answer_of(read_to_end(connection))
        assert answer.status == 200
        return (answer.backend, connection.session_reused), connection.session


def test_the_second_vip_is_there(dispatch_lab):
    vips = {vip["name"]: vip["vip"] for vip in told(dispatch_lab, "status")["vips"]}
    assert vips[TLS_NAME]["port"] == TLS_PORT and vips[TLS_NAME]["address"] == VIP
