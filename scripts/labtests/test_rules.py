"""Each kind of rule, told to the running switch, sends real requests to the server it names."""

import subprocess

import pytest
from dispatching import BACKENDS, TLS_NAME, applied, one_each
from helpers import answer_of, curl, get, read_to_end, request, told

from lab_lib.topology import TLS_PORT, VIP, VIP_NAME, VIP_PORT

# Conditions for the first two backends; then requests, as curl's arguments, and which of the three they reach.
KINDS = {
    "host": ([{"host": "a.example"}, {"host": "*.a.example"}],
             [(["-H", "Host: A.example:80"], 0), (["-H", "Host: x.y.a.example"], 1), (["-H", "Host: ba.example"], 2)]),
    "path_exact": ([{"path_exact": "/who"}, {"path_exact": "/who/"}], [(["/who"], 0), (["/who?x=1"], 0), (["/"], 2)]),
    "path_prefix": ([{"path_prefix": "/files/"}, {"path_prefix": "/video/"}],
                    [(["/files/1k"], 0), (["/video/1k"], 1), (["/db/"], 2)]),
    "path_suffix": ([{"path_suffix": "/1k"}, {"path_suffix": "4k"}],
                    [(["/files/1k"], 0), (["/files/4k"], 1), (["/files/16k"], 2)]),
    "path_regex": ([{"path_regex": "^/files/[0-9]+k$"}, {"path_regex": "vid.o"}],
                   [(["/files/16k"], 0), (["/files/1m"], 2), (["/video/1k"], 1)]),
    "method": ([{"method": "POST"}, {"method": ["PUT", "DELETE"]}],
               [(["-X", "POST", "-d", "x", "/upload"], 0), (["-X", "PUT", "-d", "x", "/upload"], 1), (["/who"], 2)]),
    "header": ([{"header": {"name": "X-Beta", "value": "1"}}, {"header": {"name": "Accept-Language",
                                                                          "value_prefix": "de"}}],
               [(["-H", "x-beta: 1"], 0), (["-H", "Accept-Language: de-CH"], 1), (["-H", "X-Beta: 2"], 2)]),
    "cookie": ([{"cookie": {"name": "group", "value": "gold"}}, {"cookie": {"name": "seen"}}],
               [(["-b", "a=b; group=gold"], 0), (["-b", "seen=1"], 1), (["-b", "group=golden"], 2)]),
    "cookie_prefix": ([{"cookie": {"name": "group", "value_prefix": "gold"}},
                       {"cookie": [{"name": "group", "value_prefix": "s"}, {"name": "beta"}]}],
                      [(["-b", "a=b; group=golden"], 0), (["-b", "group=gold"], 0), (["-b", "group=silver; beta=1"], 1),
                       (["-b", "group=silver"], 2), (["-b", "group=gol"], 2), (["-b", "subgroup=gold"], 2)]),
    "query": ([{"query": {"name": "id", "value": "7"}}, {"query": {"name": "debug"}}],
              [(["/db/?x=1&id=7"], 0), (["/db/?debug"], 1), (["/db/?id=8"], 2)]),
    "service": ([{"service": "video"}, {"service": "database"}],
                [(["-o", "/dev/null", "/files/film.mp4"], 0), (["/db/x.php?id=7"], 1), (["/files/1k"], 2)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_rule_reaches_its_server(dispatch_lab, kind):
    conditions, requests = KINDS[kind]
    with applied(dispatch_lab, one_each(*conditions)):
        for arguments, backend in requests:
            *options, path = arguments if arguments[-1].startswith("/") else [*arguments, "/who"]
            assert foretold(dispatch_lab, *options, path) == BACKENDS[backend], arguments
            assert reached(dispatch_lab, *options, f"http://{VIP}{path}") == BACKENDS[backend], arguments


def foretold(lab, *arguments):
    """Which backend `batonctl route` says answers what curl asks with these arguments."""
    *options, path = arguments
    given = list(zip(options[::2], options[1::2]))
    method = next((value for option, value in given if option == "-X"), "GET")
    headers = [{"-H": "", "-b": "Cookie: "}[option] + value for option, value in given if option in ("-H", "-b")]
    # A Host that is given stands in the URL for batonctl.
    host = next((header.split(": ")[1] for header in headers if header.startswith("Host: ")), VIP)
    others = [word for header in headers if not header.startswith("Host: ") for word in ("-H", header)]
    return routed(lab, method, f"http://{host}{path}", "--vip", VIP_NAME, *others)


def routed(lab, *question):
    """The backend `batonctl route` names."""
    return told(lab, "route", *question)["outcome"]["dispatch"]["backend"]


def reached(lab, *arguments, client="client1"):
    """Which backend answers curl, whatever it answers."""
    output = lab.run(client, ["curl", "-sS", "--max-time", "10", "-o", "/dev/null", "-D", "-", *arguments]).stdout
    return next(line.split(": ")[1].strip() for line in output.splitlines() if line.lower().startswith("x-backend"))


def test_a_rule_by_the_clients_network(dispatch_lab):
    clients = {name: dispatch_lab.address_of(name) for name in ("client1", "client2")}
    with applied(dispatch_lab, one_each({"client": f"{clients['client2']}/32"}, {"client": ["192.0.2.0/24",
                                                                                             "10.0.0.0/8"]})):
        for name, backend in [("client1", "backend2"), ("client2", "backend1")]:
            assert get(dispatch_lab, "/who", client=name).backend == backend
            assert routed(dispatch_lab, "GET", "/who", "--vip", VIP_NAME, "--client", clients[name]) == backend


def test_rules_by_vip_part_the_ports_of_one_address(dispatch_lab):
    """The same request at two ports of the VIP."""
    vips = {vip["name"]: vip["vip"] for vip in told(dispatch_lab, "status")["vips"]}
    assert vips == {VIP_NAME: {"address": VIP, "port": VIP_PORT}, TLS_NAME: {"address": VIP, "port": TLS_PORT}}
    with applied(dispatch_lab, one_each({"vip": TLS_NAME}, {"vip": VIP_NAME})):
        for scheme, vip, question, backend in [("http", VIP_NAME, ["GET", f"http://{VIP}/who"], "backend2"),
                                               ("https", TLS_NAME, ["--alpn", "http/1.1"], "backend1")]:
            for _ in range(3):
                assert reached(dispatch_lab, "-k", "--http1.1", f"{scheme}://{VIP}/who") == backend
            assert routed(dispatch_lab, *question, "--vip", vip) == backend


def test_who_asks_for_http_where_tls_is_spoken_is_told(dispatch_lab):
    with dispatch_lab.connect("client1", port=TLS_PORT) as connection:
        connection.sendall(request("/who"))
        answer = answer_of(read_to_end(connection))
    assert answer.status == 400 and b"https" in answer.body


def test_without_inspection_requests_are_spread_blindly(dispatch_lab):
    """The path says backend 1; nobody looks."""
    blind = {"vip": [{"name": "web", "address": VIP, "port": 80, "inspect": "none"},
                     {"name": TLS_NAME, "address": VIP, "port": TLS_PORT, "inspect": "none"}]}
    with applied(dispatch_lab, blind):
        assert {get(dispatch_lab, "/b/backend1/who").backend for _ in range(6)} == set(BACKENDS)
        assert reached(dispatch_lab, "-k", f"https://{VIP}/who") in BACKENDS, "TLS, unseen"


def test_rules_answer_by_themselves(dispatch_lab):
    answers = {"rule": [
        {"path_prefix": "/old/", "redirect": {"status": 301, "location": "http://{host}/who"}},
        {"path_exact": "/closed", "respond": {"status": 451, "body": "not here"}},
        {"pool": "all"},
    ]}
    with applied(dispatch_lab, answers):
        final = curl(dispatch_lab, "-L", "-w", "%{num_redirects}", f"http://{VIP}/old/x")
        assert final.startswith("backend") and final.endswith("1"), final
        answer = get(dispatch_lab, "/closed")
        assert (answer.status, answer.body) == (451, b"not here")


def test_the_switch_explains_what_then_happens(dispatch_lab):
    with applied(dispatch_lab, one_each({"path_prefix": "/files/"}, {"method": "POST"})):
        for method, path, backend in [("GET", "/files/1k", "backend1"), ("POST", "/upload", "backend2"),
                                      ("GET", "/who", "backend3")]:
            answer = told(dispatch_lab, "route", method, path, "--vip", "web")
            assert answer["outcome"]["dispatch"]["backend"] == backend, answer
            if method == "GET":
                assert get(dispatch_lab, path).backend == backend


def test_a_wrong_configuration_is_refused_and_the_old_one_goes_on(dispatch_lab):
    lab = dispatch_lab
    path = lab.run_dir / "wrong.toml"
    path.write_text(lab.write_switch_config().read_text().replace('pool = "all"', 'pool = "nowhere"', 1))
    before = lab.batonctl("config", "show").stdout
    refused = lab.batonctl("config", "apply", str(path), check=False)
    assert refused.returncode != 0 and "nowhere" in refused.stderr and "there are" in refused.stderr, refused
    assert lab.batonctl("config", "show").stdout == before
    assert get(lab, "/who").status == 200
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([lab.bin_dir / "baton-switch", "--check", "--config", path], check=True, capture_output=True)
