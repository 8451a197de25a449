"""What binds a client to its backend, whatever the policy would choose: address, cookies, sessions of TLS."""

import ssl

from dispatching import BACKENDS, TLS_NAME, applied, drained, served
from helpers import answer_of, counters, eventually, get, grown, read_to_end, request

from lab_lib.topology import TLS_PORT, VIP, VIP_NAME

BY_SESSION = {"pool": [{"name": "plain", "backends": list(BACKENDS)},
                       {"name": "tls", "backends": list(BACKENDS), "sticky": "tls-session"}],
              "rule": [{"vip": TLS_NAME, "pool": "tls"}, {"pool": "plain"}]}
VALUES = [f"value{number}" for number in range(12)]


def sticky_plain(sticky):
    """Turns for everything, but for what this binds; TLS goes to a pool that binds nothing."""
    return {"pool": [{"name": "plain", "backends": list(BACKENDS), "sticky": sticky},
                     {"name": "tls", "backends": list(BACKENDS)}],
            "rule": [{"vip": TLS_NAME, "pool": "tls"}, {"vip": VIP_NAME, "pool": "plain"}]}


def with_cookie(value):
    return {"headers": [f"Cookie: a=b; SESSION={value}; c=d"]}


def asked(lab, value):
    """Who answers five requests with this cookie: one backend."""
    counts = served(lab, ["/who"] * 5, **with_cookie(value))
    assert len(counts) == 1, (value, counts)
    return next(iter(counts))


def test_a_client_stays_at_its_backend_and_comes_back_to_it(dispatch_lab):
    lab = dispatch_lab

    def whom(client="client1"):
        counts = served(lab, ["/who"] * 6, client=client)
        assert len(counts) == 1, counts
        return next(iter(counts))
    with applied(lab, sticky_plain("client")):
        before = counters(lab)
        mine, other = whom(), whom("client2")
        with drained(lab, mine):
            second = whom()
            assert second != mine
            assert (whom("client2") == other) == (mine != other), "nobody else moves"
        assert (whom(), whom("client2")) == (mine, other)
        assert grown(lab, before)["bound_by_hash"] == 36, "the policy was never asked"


def test_a_cookies_value_stays_at_its_backend_and_comes_back_to_it(dispatch_lab):
    """From whatever client; without the cookie there are turns."""
    lab = dispatch_lab
    with applied(lab, sticky_plain({"cookie": "SESSION"})):
        owners = {value: asked(lab, value) for value in VALUES}
        assert set(owners.values()) == set(BACKENDS), owners
        assert {value: get(lab, "/who", client="client2", **with_cookie(value)).backend for value in VALUES} == owners
        with drained(lab, "backend2"):
            away = {value: asked(lab, value) for value in VALUES}
        assert {value for value in VALUES if away[value] != owners[value]} == \
            {value for value in VALUES if owners[value] == "backend2"}, "what the others had stays"
        assert {value: asked(lab, value) for value in VALUES} == owners
        assert served(lab, ["/who"] * 12) == {name: 4 for name in BACKENDS}


def test_a_cookie_that_names_a_backend_leads_there(dispatch_lab):
    """By itself or behind the last dot. Of one that drains, the policy decides, until it is back."""
    lab = dispatch_lab
    with applied(lab, sticky_plain({"cookie_route": "SESSION"})):
        before = counters(lab)
        for value, backend in [("backend3", "backend3"), ("9f.backend1", "backend1"), ("backend1.backend2", "backend2")]:
            assert asked(lab, value) == backend
        assert grown(lab, before)["bound_by_route"] == 15
        with drained(lab, "backend3"):
            counts = served(lab, ["/who"] * 6, **with_cookie("x.backend3"))
            assert "backend3" not in counts, counts
        assert asked(lab, "x.backend3") == "backend3"
        assert len(served(lab, ["/who"] * 6, **with_cookie("backend9"))) == 3, "who is named by nobody is not bound"


def test_a_resumed_tls_session_reaches_the_server_that_made_it(dispatch_lab):
    """TLS 1.2 without tickets: the agent learns the id from the ServerHello. Each session is made while the server its
    client's address belongs to drains: later, by the address alone, nobody would find who made it."""
    lab = dispatch_lab
    with applied(lab, BY_SESSION):
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
    with applied(lab, BY_SESSION):
        before = counters(lab)
        assert len({over_tls(lab, tls_context())[0] for _ in range(6)}) == 1
        after = grown(lab, before)
        assert after["sessions_unknown"] == 6 and "sessions_learned" not in after, after


def tls_context():
    """A client that takes the lab's own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


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


def test_openssl_resumes_at_the_server_that_made_the_session(dispatch_lab):
    """Another client than Python's: the session is kept in a file, made while the server its address belongs to drains."""
    lab, kept = dispatch_lab, dispatch_lab.run_dir / "session.pem"
    with applied(lab, BY_SESSION):
        before = counters(lab)
        owner, is_resumed = by_openssl(lab)
        learned(lab, before, 1)
        with drained(lab, owner):
            maker, is_resumed = by_openssl(lab, "-sess_out", kept)
        assert maker != owner and not is_resumed
        learned(lab, before, 2)
        for _ in range(3):
            assert by_openssl(lab, "-sess_in", kept) == (maker, True)
        assert by_openssl(lab) == (owner, False)


def test_openssl_reconnects_and_resumes_each_time(dispatch_lab):
    """Five connections after the first, each where the session is known: servers share no sessions, and turns would change."""
    lab = dispatch_lab
    with applied(lab, BY_SESSION):
        before = counters(lab)
        output = s_client(lab, "-reconnect")
        found = [line.split(",")[0] for line in output.splitlines() if line.startswith(("New, ", "Reused, "))]
        assert found == ["New"] + ["Reused"] * 5, output
        assert grown(lab, before)["sessions_found"] == 5


def s_client(lab, *options, request_text=""):
    """What openssl says of a TLS 1.2 connection on which it sends this, and of those that follow."""
    return lab.run("client1", ["openssl", "s_client", "-connect", f"{VIP}:{TLS_PORT}", "-tls1_2", *options],
                   stdin=request_text, timeout_s=20).stdout


def by_openssl(lab, *options):
    """A request by openssl; returns who answered, and whether a session was resumed."""
    output = s_client(lab, "-ign_eof", *options, request_text=request("/who", close=True).decode())
    backend = next(line.split(": ")[1].strip() for line in output.splitlines() if line.startswith("X-Backend"))
    return backend, "\nReused, TLSv1.2" in output
