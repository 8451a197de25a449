"""The agent and its host: what it finds, what it mends, what it leaves behind. With real rules and a real kernel."""

import ctypes
import json
import signal
import struct
import time
from contextlib import contextmanager

import pytest
from helpers import ask, backend_of, eventually, flow_of, get, read_answer, request, setting

from lab_lib import baton, network
from lab_lib.system import tail
from lab_lib.topology import VIP

BACKEND = "backend1"
CHAIN = "chain input {\ntype filter hook input priority 0; policy accept;\n"
# Rules as operators write them; each makes every handoff vanish. A line each: nft wants the brackets apart.
WANTS_A_SYN = {
    "nft, flags masked": CHAIN + "ct state new tcp flags & (fin|syn|rst|ack) != syn drop\n}\n",
    "nft, flags first": CHAIN + "tcp flags != syn ct state new counter drop\n}\n",
    "nft, not syn": CHAIN + "ct state { invalid, new } tcp dport 80 tcp flags ! syn reject\n}\n",
}
IPTABLES_RULE = ["INPUT", "-p", "tcp", "!", "--syn", "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"]
NAT = "chain prerouting {{\ntype nat hook prerouting priority dstnat; policy accept;\n{}\n}}\n"
# Rules that lead the VIP's packets elsewhere, as for a container with a published port.
REDIRECTED = {
    "dnat": NAT.format(f"ip daddr {VIP} tcp dport 80 dnat ip to 10.60.0.77:8080"),
    "dnat, data interface alone": NAT.format('iifname "data0" tcp dport 80 dnat ip to 10.60.0.77'),
    "redirect": NAT.format("tcp dport { 80, 443 } redirect to :8080"),
}
# No reader of rules sees through this one; a handoff that is tried does.
HIDDEN = "chain late {\ntcp flags & syn == 0 drop\n}\n" + CHAIN + "ct state vmap { new : jump late }\n}\n"


# --- what a host is like --------------------------------------------------------------------------------------

def _tcx_programs(namespace, interface):
    """How many BPF programs sit at an interface's tcx hooks, by BPF_PROG_QUERY (bpf(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    counts = []
    with network.entered(namespace):
        index = ctypes.c_uint(libc.if_nametoindex(interface.encode())).value
        for attach_type in (46, 47):  # BPF_TCX_INGRESS, BPF_TCX_EGRESS
            query = ctypes.create_string_buffer(struct.pack("=IIIIQII40x", index, attach_type, 0, 0, 0, 0, 0))
            if libc.syscall(321, 16, query, len(query)) != 0:
                raise OSError(ctypes.get_errno(), "BPF_PROG_QUERY")
            counts.append(struct.unpack_from("=I", query, 24)[0])
    return counts


def _host(lab):
    """Everything about a backend that an agent may change, in a form that can be compared."""
    def shown(*argv):
        return lab.run(BACKEND, argv).stdout

    links = json.loads(shown("ip", "-j", "link"))
    addresses = json.loads(shown("ip", "-j", "address"))
    return {
        "links": sorted((link["ifname"], link["flags"], link["mtu"]) for link in links),
        "addresses": sorted((a["ifname"], info["local"]) for a in addresses for info in a["addr_info"]),
        "routes": shown("ip", "-j", "route", "show", "table", "all"),
        "rules": shown("ip", "rule"),
        "firewall": shown("nft", "list", "ruleset"),
        "settings": shown("sysctl", "-a", "-r", r"^net\.ipv4\.(conf|tcp|neigh)"),
        "programs": _tcx_programs(lab.plan.namespace(BACKEND), "data0"),
        "pins": baton.pin_directory(lab.plan, lab.plan.hosts[BACKEND]).exists(),
        "state": (lab.backend_dir(BACKEND) / "agent-state").exists(),
    }


def _agent(lab, *arguments, check=True):
    """Run baton-agent with this backend's configuration; returns subprocess.CompletedProcess."""
    config = lab.backend_dir(BACKEND) / "agent.toml"
    return lab.run(BACKEND, [lab.bin_dir / "baton-agent", "--config", config, *arguments], check=check)


def _checked(lab, words):
    """What `--check` says of a finding that the agent may mend at start, and of the same one where it may not."""
    said = []
    for leave, status, beginning in ((True, 0, "will be set at start: "), (False, 1, "error: ")):
        lab.write_agent_config(BACKEND, {"agent": {"manage_host": leave}})
        found = _agent(lab, "--check", check=False)
        assert found.returncode == status, found.stdout
        assert any(line.startswith(beginning) and words in line for line in found.stdout.splitlines()), found.stdout
        assert ("error: " in found.stdout) is not leave, found.stdout
        said.append(found.stdout)
    return said


@contextmanager
def _firewall(lab, rules):
    lab.run(BACKEND, ["nft", "-f", "-"], stdin=f"table inet fw {{\n{rules}}}\n")
    try:
        yield
    finally:
        lab.run(BACKEND, ["nft", "delete", "table", "inet", "fw"])


@pytest.fixture
def with_agent(small_lab):
    """Starts switch and agent afresh with settings for the agent, and detaches after the test."""
    def start(**settings):
        small_lab.write_agent_config(BACKEND, {"agent": settings})
        small_lab.start_agent(BACKEND, wait=False)
    if "switch" not in small_lab.processes.names():
        small_lab.start_baton()
        small_lab.stop_agent(BACKEND)
        _agent(small_lab, "detach")
    yield start
    small_lab.stop_agent(BACKEND)
    _agent(small_lab, "detach")


def _last_of_log(lab):
    """The last lines of the agent's log."""
    return tail(lab.backend_dir(BACKEND) / "agent.log", 5)


def _served(lab):
    return eventually(lambda: lab.run("client1", ["curl", "-s", "--max-time", "1", lab.url("/who")], check=False
                                      ).stdout.strip() == BACKEND, timeout_s=10, what="a client is served")


# --- tests ----------------------------------------------------------------------------------------------------

def test_detach_leaves_nothing_behind(small_lab):
    """First of this file, on a host that never had an agent: afterwards it is as if it never had one."""
    before = _host(small_lab)
    assert before["programs"] == [0, 0] and not before["pins"] and not before["state"]
    small_lab.start_baton()
    during = _host(small_lab)
    assert during["programs"] == [1, 1] and during["pins"] and during["state"], "the agent changed nothing"
    assert ("lo", "10.60.0.100") in during["addresses"] and during["settings"] != before["settings"]
    refused = _agent(small_lab, "detach", check=False)
    assert refused.returncode != 0 and "running" in refused.stderr, "not under a running agent"
    small_lab.stop_agent(BACKEND)
    assert _host(small_lab)["programs"] == [1, 1], "without its agent, a backend goes on with what it has"
    _agent(small_lab, "detach")
    assert _host(small_lab) == before
    _agent(small_lab, "detach")  # once more does no harm
    assert _host(small_lab) == before


def test_detach_after_a_crash_in_the_presence_of_a_firewall(small_lab, with_agent):
    """What a killed agent changed is written down: rules of its own, too."""
    before = _host(small_lab)
    with _firewall(small_lab, WANTS_A_SYN["nft, flags masked"]):
        with_agent()
        _served(small_lab)
        assert "notrack" in _host(small_lab)["firewall"]
        small_lab.kill_agent(BACKEND)
        _agent(small_lab, "detach")
        assert "notrack" not in _host(small_lab)["firewall"]
    assert _host(small_lab) == before


def test_check_of_a_host_that_is_fit_and_of_one_that_is_not(small_lab, with_agent):
    with_agent()
    _served(small_lab)
    fit = _agent(small_lab, "--check", check=False)
    assert fit.returncode == 0 and "fit for handoffs" in fit.stdout, fit.stdout
    small_lab.stop_agent(BACKEND)
    _agent(small_lab, "detach")
    before = _host(small_lab)
    leave, no_leave = _checked(small_lab, "10.60.0.100 is not an address of this host")
    for words in ("arp_ignore is 0", "arp_announce is 0", "why: "):
        assert words in leave and words in no_leave, leave + no_leave
    assert "the agent does: ip address add 10.60.0.100/32 dev lo" in leave and "remedy: " not in leave, leave
    assert "remedy: ip address add 10.60.0.100/32 dev lo" in no_leave, no_leave
    assert _host(small_lab) == before, "--check changes nothing"


@pytest.mark.parametrize("setting, value, good", [
    ("net.ipv4.tcp_syncookies", 0, 1), ("net.ipv4.tcp_timestamps", 0, 1), ("net.ipv4.tcp_rfc1337", 1, 0),
    ("net.ipv4.conf.data0.rp_filter", 1, 0),
])
def test_check_names_a_wrong_setting_and_its_remedy(small_lab, with_agent, setting, value, good):
    with_agent()
    _served(small_lab)
    small_lab.stop_agent(BACKEND)
    was = small_lab.run(BACKEND, ["sysctl", "-n", setting]).stdout.strip()
    small_lab.run(BACKEND, ["sysctl", "-qw", f"{setting}={value}"])
    try:
        _, no_leave = _checked(small_lab, setting.rpartition(".")[2])
    finally:
        small_lab.run(BACKEND, ["sysctl", "-qw", f"{setting}={was}"])
    assert "remedy: echo " in no_leave, no_leave
    assert was == str(good) or setting.endswith("rp_filter")


@pytest.mark.parametrize("rules", WANTS_A_SYN.values(), ids=WANTS_A_SYN.keys())
def test_check_finds_nftables_rules_that_want_a_syn(small_lab, with_agent, rules):
    with_agent()
    _served(small_lab)
    small_lab.stop_agent(BACKEND)
    with _firewall(small_lab, rules):
        said = _checked(small_lab, "firewall")
    assert all("inet fw" in text and "notrack" in text for text in said), said
    assert _agent(small_lab, "--check", check=False).returncode == 0


def test_check_finds_iptables_rules_that_want_a_syn(small_lab, with_agent):
    with_agent()
    _served(small_lab)
    small_lab.stop_agent(BACKEND)
    small_lab.run(BACKEND, ["iptables", "-A", *IPTABLES_RULE])
    try:
        said = _checked(small_lab, "firewall")
    finally:
        small_lab.run(BACKEND, ["iptables", "-D", *IPTABLES_RULE])
        small_lab.run(BACKEND, ["nft", "delete", "table", "ip", "filter"])
    assert all("iptables" in text and "ctstate NEW" in text for text in said), said


@contextmanager
def _agent_halted(lab):
    """Within, an agent changes and says nothing; its programs take handoffs, and for half a second it is trusted."""
    lab.processes.signal(f"agent@{BACKEND}", signal.SIGSTOP)
    try:
        yield
    finally:
        lab.processes.signal(f"agent@{BACKEND}", signal.SIGCONT)


@pytest.mark.parametrize("rules", REDIRECTED.values(), ids=REDIRECTED.keys())
def test_a_redirected_handoff_reaches_no_server(small_lab, with_agent, rules):
    """Why a redirection is an error: the kernel took the handoff, and its client gets no answer, or a RST."""
    with_agent()
    _served(small_lab)
    with small_lab.connect("client1", timeout_s=1) as connection, _agent_halted(small_lab), _firewall(small_lab, rules):
        entries = len(small_lab.access_log(BACKEND))
        connection.sendall(request("/who"))
        with pytest.raises((TimeoutError, ConnectionResetError)):
            connection.recv(1)
        assert flow_of(small_lab, connection)["backend"] == BACKEND, "it was handed off"
        assert len(small_lab.access_log(BACKEND)) == entries


@pytest.mark.parametrize("rules", REDIRECTED.values(), ids=REDIRECTED.keys())
def test_a_redirection_is_named_and_mended_or_closes_the_backend(small_lab, with_agent, rules):
    """What is not tracked is not translated: an agent that may change the host has the VIP not tracked."""
    with _firewall(small_lab, rules):
        leave, no_leave = _checked(small_lab, f"a firewall rule may redirect {VIP}:80: nft inet fw chain prerouting")
        assert "the agent does: " in leave and "notrack" in leave, leave
        assert "remedy: exclude the VIP from the rule" in no_leave, no_leave
        with_agent()
        _served(small_lab)
        assert "notrack" in _host(small_lab)["firewall"] and get(small_lab, "/files/64k").status == 200
        small_lab.stop_agent(BACKEND)
        _agent(small_lab, "detach")
        with_agent(manage_host=False)
        told = eventually(lambda: "may redirect" in str((b := backend_of(small_lab, BACKEND))["reasons"]) and b,
                          timeout_s=5, what="the switch knows the reason")
        assert not told["usable"], told
        assert get(small_lab, "/who").status == 503, "clients are told, and do not wait"


def test_an_agent_that_may_not_change_the_host_says_what_it_lacks(small_lab, with_agent):
    """`manage_host = false`: the backend gets nothing, and the switch knows the reason."""
    before = _host(small_lab)
    with_agent(manage_host=False)
    told = eventually(lambda: "10.60.0.100" in str((b := backend_of(small_lab, BACKEND))["reasons"]) and b,
                      timeout_s=5, what="the switch knows of the missing VIP")
    assert not told["usable"] and any("is not an address of this host" in reason for reason in told["reasons"]), told
    after = _host(small_lab)
    assert (after["addresses"], after["settings"], after["firewall"]) == \
        (before["addresses"], before["settings"], before["firewall"])


def test_a_firewall_the_agent_may_not_touch_makes_it_unready(small_lab, with_agent):
    with_agent()
    _served(small_lab)
    small_lab.stop_agent(BACKEND)
    with _firewall(small_lab, WANTS_A_SYN["nft, flags masked"]):
        with_agent(manage_host=False)
        told = eventually(lambda: (b := backend_of(small_lab, BACKEND))["report_age_ms"] is not None
                          and not b["usable"] and "firewall" in str(b["reasons"]) and b, timeout_s=5, what="a report")
        assert "firewall rule drops" in told["reasons"][0], told
        assert "not ready for handoffs" in _last_of_log(small_lab) and "firewall rule drops" in _last_of_log(small_lab)
        time.sleep(1)
        assert not backend_of(small_lab, BACKEND)["usable"], "nor later"
    small_lab.stop_agent(BACKEND)


def test_connection_tracking_that_takes_up_no_midstream(small_lab, with_agent):
    """`nf_conntrack_tcp_loose = 0`: what begins without a SYN is invalid, and such firewalls drop that."""
    with setting(small_lab, BACKEND, "net.netfilter.nf_conntrack_tcp_loose", 0), \
            _firewall(small_lab, CHAIN + "ct state invalid drop\n}\n"):
        with_agent(manage_host=False)
        told = eventually(lambda: "tcp_loose" in str((b := backend_of(small_lab, BACKEND))["reasons"]) and b,
                          timeout_s=5, what="the switch knows the reason")
        assert not told["usable"], told
        small_lab.stop_agent(BACKEND)
        with_agent()
        _served(small_lab)


def test_a_firewall_that_comes_later_closes_the_backend(small_lab, with_agent):
    """What was fit when the agent started swallows every handoff now: seen by the sockets that are never born."""
    with_agent()
    _served(small_lab)
    waiting = [small_lab.connect("client1", timeout_s=40) for _ in range(8)]
    try:
        with _firewall(small_lab, HIDDEN):
            for connection in waiting:
                connection.sendall(request("/who"))
                time.sleep(0.1)
            told = eventually(lambda: not (b := backend_of(small_lab, BACKEND))["usable"] and b, timeout_s=5,
                              what="the backend is closed")
            assert "never became connections" in str(told["reasons"]), told
            assert "not ready for handoffs" in _last_of_log(small_lab)
            assert get(small_lab, "/who").status == 503, "new clients are told, and do not wait"
        # Nobody waits for good: the handoff is taken at last, or refused by a backend that is not ready.
        assert {read_answer(connection).status for connection in waiting} <= {200, 503}
    finally:
        for connection in waiting:
            connection.close()
    eventually(lambda: backend_of(small_lab, BACKEND)["usable"], timeout_s=20, what="it is open again")


def test_a_firewall_the_agent_may_mend_is_mended(small_lab, with_agent):
    with _firewall(small_lab, WANTS_A_SYN["nft, flags first"]):
        with_agent()
        _served(small_lab)
        with small_lab.connect("client1") as connection:
            assert ask(connection, "/files/64k").status == 200


def test_the_self_test_finds_what_no_reading_of_rules_finds(small_lab, with_agent):
    with _firewall(small_lab, HIDDEN):
        with_agent()
        told = eventually(lambda: "self-test" in str((b := backend_of(small_lab, BACKEND))["reasons"]) and b,
                          timeout_s=10, what="the self-test fails")
        assert not told["usable"] and "10.60.0.100:80" in str(told["reasons"]), told
    _served(small_lab)  # it is tried again by itself


def test_the_self_test_shows_in_no_log_and_leaves_no_socket(small_lab, with_agent):
    entries = len(small_lab.access_log(BACKEND))
    with_agent()
    _served(small_lab)
    logged = small_lab.access_log(BACKEND)[entries:]
    assert {entry["client"] for entry in logged} <= {small_lab.address_of("client1")}, logged
    assert "198.18." not in small_lab.run(BACKEND, ["ss", "-tan"]).stdout
    assert get(small_lab, "/who").backend == BACKEND


def test_http_health_judges_by_the_status(small_lab, with_agent):
    """A server that listens and says 404 is not well."""
    for path, usable in (("/healthz", True), ("/nowhere", False)):
        small_lab.write_agent_config(BACKEND, {"vip": [{"address": "10.60.0.100", "port": 80,
                                                        "health": f"http:{path}"}]})
        small_lab.start_agent(BACKEND, wait=False)
        told = eventually(lambda: (b := backend_of(small_lab, BACKEND))["usable"] == usable
                          and (usable or "404" in str(b["reasons"])) and b,  # noqa: B023
                          timeout_s=10, what=f"{path}: usable {usable}")
        assert usable or "10.60.0.100:80" in str(told["reasons"]), told
        small_lab.stop_agent(BACKEND)


@pytest.mark.parametrize("rules", [*WANTS_A_SYN.values(), HIDDEN], ids=[*WANTS_A_SYN, "hidden"])
def test_health_probes_end_behind_a_firewall(small_lab, with_agent, rules):
    """With the VIP out of connection tracking, too, each probe ends with its RST: the server keeps none of them."""
    def kept():
        return set(small_lab.run(BACKEND, ["ss", "-Htan", "state", "established", "src", f"{VIP}:80"]
                                 ).stdout.splitlines())
    with _firewall(small_lab, WANTS_A_SYN["nft, flags masked"]):
        with_agent()
        _served(small_lab)
    with _firewall(small_lab, rules):
        assert "notrack" in _host(small_lab)["firewall"]
        before = kept()
        time.sleep(1.5)  # ten probes
        left = kept() - before
    assert len(left) <= 2, left
