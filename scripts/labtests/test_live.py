"""What operators change while traffic goes on, and what they see of it."""

import json
import signal
import threading
from collections import Counter

from dispatching import BACKENDS, OWN, POLICIES, applied, apply, pool_of_all, usable
from helpers import ask, counters, eventually, flow_of, get, grown, read_to_end, request, told

RELOADS = 100


class Load:
    """Clients that ask without a pause until told to stop; what went wrong is kept."""

    def __init__(self, lab, clients=4):
        self._lab, self._stop = lab, threading.Event()
        self._expected = (lab.content_dir / "4k").read_bytes()
        self.answered, self.faults = Counter(), []
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        while not self._stop.is_set():
            try:
                answer = get(self._lab, "/files/4k", client="client2")
                if answer.status != 200 or answer.body != self._expected:
                    self.faults.append(answer)
                self.answered[answer.backend] += 1
            except (OSError, EOFError) as fault:
                self.faults.append(fault)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_hundred_reloads_under_load_break_nothing(dispatch_lab):
    """Each other time another policy, another order, another rule; a download and an idle connection live through all."""
    lab = dispatch_lab
    forms = [OWN, {**OWN, **pool_of_all("least-connections")},
             {**OWN, **pool_of_all({"name": "maglev", "hash": "path"}),
              "rule": [{"path_prefix": "/none/", "respond": {"status": 404, "body": "x"}}, {"pool": "all"}]},
             {**OWN, "pool": OWN["pool"][::-1]}]
    before = counters(lab)
    with lab.connect("client1") as idle, lab.connect("client1") as download, Load(lab) as load:
        first = ask(idle, "/who")
        download.sendall(request("/slow/10m", close=True))
        for number in range(RELOADS):
            apply(lab, forms[number % len(forms)])
        apply(lab, OWN)
        assert ask(idle, "/who").backend == first.backend
        data = read_to_end(download)
    assert not load.faults and sum(load.answered.values()) > RELOADS, (load.answered, load.faults[:3])
    assert len(data.split(b"\r\n\r\n", 1)[1]) == 10 << 20
    # Who was reset before the end of an answer stands among the faults. A client's last FIN may be repeated, on a busy machine,
    # to a server that has forgotten the connection: the reset that brings (`flows_gone`) is nobody's.
    assert not {"errors_503", "drop_no_rule"} & set(grown(lab, before))


class Storm:
    """Ten ways to change a running switch, or to try: what each is, and whether it is to be refused."""

    def __init__(self, lab):
        self._lab, self._applied_file = lab, lab.run_dir / "applied.toml"

    def all_in_turn(self, policy, other):
        """One round, from the file with one policy over an applied one with another."""
        lab, backends = self._lab, self._lab.batonctl
        right, applied_text = self._text(policy), self._text(other, order=-1)
        wrong = right.replace('"all"', '"nowhere"', 1)
        file = lab.run_dir / "switch.toml"
        file.write_text(right)
        self._told("configuration-applied", lambda: lab.processes.signal("switch", signal.SIGHUP))
        self._applied_file.write_text(applied_text)
        backends("config", "apply", str(self._applied_file))
        answer = lab.run("switch", ["curl", "-sS", "--fail-with-body", "-X", "POST", "--unix-socket", lab.admin_socket,
                                    "http://baton/v1/reload"]).stdout
        assert json.loads(answer)["changes"], "the file says otherwise than what was applied"
        self._applied_file.write_text(wrong)
        assert backends("config", "apply", str(self._applied_file), check=False).returncode == 3
        file.write_text(wrong)
        self._told("configuration-refused", lambda: lab.processes.signal("switch", signal.SIGHUP))
        file.write_text(right)
        backends("backends", "weight", "backend2", "5")
        backends("backends", "drain", "backend1")
        backends("backends", "enable", "backend1")
        backends("backends", "remove", "backend3")
        backends("backends", "add", "backend3", lab.address_of("backend3"), "--pool", "all")

    def _text(self, policy, order=1):
        pool = {"name": "all", "backends": list(BACKENDS)[::order], "policy": policy}
        return self._lab.write_switch_config({**OWN, "pool": [pool], "rule": [{"pool": "all"}]}).read_text()

    def _told(self, kind, action):
        """Do something of which only an event tells the end."""
        newest = told(self._lab, "events")["events"][-1]["number"]
        action()
        eventually(lambda: kind in (event["kind"] for event in told(self._lab, "events", "--after", str(newest))["events"]),
                   timeout_s=5, what=kind)


def test_a_storm_of_changes_of_every_kind_breaks_nothing(dispatch_lab):
    """A hundred of them under load, through ten policies: every answer is whole; one in five is refused and changes nothing."""
    lab = dispatch_lab
    storm, before = Storm(lab), counters(lab)
    newest = told(lab, "events")["events"][-1]["number"]
    try:
        with lab.connect("client1") as idle, lab.connect("client1") as download, Load(lab) as load:
            first = ask(idle, "/who")
            # nginx limits the rate by whole seconds: this takes two.
            download.sendall(request("/slow/10m", close=True, headers=["Range: bytes=0-3145727"]))
            for policy, other in zip(POLICIES, POLICIES[::-1][:RELOADS // 10]):
                storm.all_in_turn(policy, other)
            assert ask(idle, "/who").backend == first.backend
            data = read_to_end(download)
    finally:
        apply(lab, OWN)
    events = told(lab, "events", "--after", str(newest))["events"]
    assert not [event for event in events if event["subject"] == "backend2"], "nobody has done anything to it"
    assert not load.faults and sum(load.answered.values()) > RELOADS, (load.answered, load.faults[:3])
    assert set(load.answered) == set(BACKENDS)
    assert data.partition(b"\r\n\r\n")[2] == (lab.content_dir / "10m").open("rb").read(3145728)
    kinds = Counter(event["kind"] for event in events)
    # And that of the lab's own configuration, at the end.
    assert (kinds["configuration-applied"], kinds["configuration-refused"]) == (RELOADS * 8 // 10 + 1, RELOADS * 2 // 10), kinds
    assert not {"errors_503", "drop_no_rule"} & set(grown(lab, before))


def test_a_drained_backend_ends_what_it_has_and_gets_nothing_new(dispatch_lab):
    lab = dispatch_lab
    with lab.connect("client1") as connection:
        backend = ask(connection, "/who").backend
        lab.batonctl("backends", "drain", backend)
        try:
            assert {get(lab, "/who").backend for _ in range(12)} == set(BACKENDS) - {backend}
            assert ask(connection, "/who").backend == backend, "its connection goes on"
            told_of = next(b for b in told(lab, "backends") if b["name"] == backend)
            assert not told_of["usable"] and "drain" in " ".join(told_of["reasons"]), told_of
        finally:
            lab.batonctl("backends", "enable", backend)
    usable(lab)
    assert {get(lab, "/who").backend for _ in range(12)} == set(BACKENDS)


def test_weights_change_while_it_runs(dispatch_lab):
    lab = dispatch_lab
    with applied(lab, pool_of_all("weighted-round-robin")):
        assert Counter(get(lab, "/who").backend for _ in range(12)) == {name: 4 for name in BACKENDS}
        lab.batonctl("backends", "weight", "backend1", "4")
        assert Counter(get(lab, "/who").backend for _ in range(12)) == {"backend1": 8, "backend2": 2, "backend3": 2}


def test_a_backend_is_removed_and_added_again(dispatch_lab):
    lab = dispatch_lab
    address = lab.address_of("backend3")
    with applied(lab, {"pool": [{"name": "all", "backends": list(BACKENDS)}], "rule": [{"pool": "all"}]}):
        with lab.connect("client1") as connection:
            while ask(connection, "/who").backend != "backend3":
                connection.close()
                connection = lab.connect("client1")
            lab.batonctl("backends", "remove", "backend3")
            assert {get(lab, "/who").backend for _ in range(9)} == {"backend1", "backend2"}
            assert ask(connection, "/who").backend == "backend3", "a removed backend keeps its connections"
            lab.batonctl("backends", "add", "backend3", address, "--pool", "all")
            usable(lab)
            assert {get(lab, "/who").backend for _ in range(9)} == set(BACKENDS)
            assert ask(connection, "/who").backend == "backend3"
            connection.close()


def test_changes_are_told_in_order(dispatch_lab):
    lab = dispatch_lab
    newest = told(lab, "events")["events"][-1]["number"]
    lab.batonctl("backends", "drain", "backend1")
    lab.batonctl("backends", "enable", "backend1")
    usable(lab)
    events = told(lab, "events", "--after", str(newest))["events"]
    assert [event["number"] for event in events] == sorted(event["number"] for event in events)
    assert "backend1" in json.dumps(events), events


def test_an_open_connection_is_told_with_its_backend(dispatch_lab):
    lab = dispatch_lab
    with lab.connect("client1") as connection:
        answer = ask(connection, "/who")
        assert flow_of(lab, connection)["backend"] == answer.backend
        eventually(lambda: next(b for b in told(lab, "backends") if b["name"] == answer.backend)["load"]["established"],
                   timeout_s=3, what="its backend reports it")
