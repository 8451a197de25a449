"""Each policy under real load: who gets how much, and what it makes of reports, weights and keys."""

import signal
import ssl
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from dispatching import BACKENDS, TLS_NAME, applied, pool_of_all, usable
from helpers import counters, eventually, get, grown, told

from lab_lib.topology import TLS_PORT, VIP

REQUESTS = 120


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
    """TLS 1.2 without tickets: the agent learns the id from the ServerHello."""
    lab = dispatch_lab
    sticky = {"pool": [{"name": "plain", "backends": list(BACKENDS)},
                       {"name": "tls", "backends": list(BACKENDS), "sticky": "tls-session"}],
              "rule": [{"vip": TLS_NAME, "pool": "tls"}, {"pool": "plain"}]}
    with applied(lab, sticky):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_TICKET
        before = counters(lab)
        for _ in range(4):
            backend, session, _ = over_tls(lab, context)
            eventually(lambda: grown(lab, before).get("sessions_learned", 0) > 0, timeout_s=2, what="the id is learned")
            for _ in range(4):
                again, session, resumed = over_tls(lab, context, session)
                assert resumed and again == backend
        after = grown(lab, before)
        assert after["sessions_found"] >= 16, after
        new = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        new.check_hostname, new.verify_mode = False, ssl.CERT_NONE
        before = counters(lab)
        assert len({over_tls(lab, new)[0] for _ in range(6)}) == 1, "TLS 1.3: by the client's address"
        assert grown(lab, before)["sessions_unknown"] == 6


def over_tls(lab, context, session=None):
    """A request over TLS; returns who answered, the session, and whether it was a resumed one."""
    with lab.connect("client1", port=TLS_PORT) as plain, context.wrap_socket(plain, session=session) as connection:
        connection.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while received := connection.recv(65536):
            data += received
        return data.split(b"\r\n\r\n")[1].decode().strip(), connection.session, connection.session_reused


def test_the_second_vip_is_there(dispatch_lab):
    vips = {vip["name"]: vip["vip"] for vip in told(dispatch_lab, "status")["vips"]}
    assert vips[TLS_NAME]["port"] == TLS_PORT and vips[TLS_NAME]["address"] == VIP
