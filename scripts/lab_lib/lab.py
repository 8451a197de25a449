"""The lab as one object: up, down, status, run something on a host, start and stop each part."""

import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from . import baton, content, counters, network, servers
from . import weather as weather_of
from .processes import Processes
from .state import KEY_FILE, State
from .system import LabError, command, require_root, tail, wait_until
from .topology import DEFAULT_PREFIX, HANDOFF_PORT, VIP, VIP_NAME, VIP_PORT, Plan

READY_TIMEOUT_S = 30


def _say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


class Lab:
    """One lab, known by its prefix. Attaches to a running lab of that prefix, if there is one."""

    def __init__(self, prefix=DEFAULT_PREFIX, *, bin_dir=None, say=_say):
        Plan(prefix)  # refuses a bad prefix before it becomes part of a path
        self.prefix = prefix
        self.bin_dir = Path(bin_dir).resolve() if bin_dir else baton.default_bin_dir()
        self.plan = None
        self._say = say
        self._state = State(prefix)
        self.processes = Processes(self._state)
        self._attach()

    def _attach(self):
        self.plan = Plan(self.prefix, **self._state.data["options"]) if self._state.load() else None

    # --- up and down -------------------------------------------------------------------------------------

    def up(self, *, backends=3, clients=2, routed=0, haproxy=False, with_servers=True, with_baton=True,
           weather=None, weather_at=weather_of.DEFAULT_PLACE, switch_settings=None, agent_settings=None):
        """Bring the lab up and wait until a client is served; on any failure take down what was made.

        `switch_settings` and `agent_settings` go over the default configuration: {"flows": {"capacity": 8}}.
        `weather`: such as "loss=1%,delay=5ms,seed=7", on the cables that `weather_at` names; see weather.py.
        """
        plan = Plan(self.prefix, backends=backends, clients=clients, routed=routed, haproxy=haproxy,
                    weather=weather, weather_at=weather_at)
        require_root()
        if with_baton:
            baton.check_binaries(self.bin_dir)
        if plan.forecast:
            weather_of.check_binary(self.bin_dir)
            weather_of.check_conditions(plan.forecast, self.bin_dir)
        with self._state.locked():
            self._clear_leftovers()
            self.plan = plan
            self._state.create(plan)
            try:
                self._bring_up(with_servers, with_baton, switch_settings, agent_settings)
            except BaseException:
                self._say("up failed; taking down what was made")
                self._take_down(keep_logs=True)
                raise
            self._state.data["phase"] = "up"
            self._state.save()

    def start_baton(self, switch_settings=None, agent_settings=None):
        """Start switch and agents in a lab that is up without them, and wait until a client is served."""
        baton.check_binaries(self.bin_dir)
        has_servers = any(name.startswith("nginx@") for name in self.processes.names())
        self._start_baton(has_servers, switch_settings, agent_settings)

    def down(self, *, keep_logs=False):
        """End the lab's processes, remove its namespaces, pins and files, and logs that an earlier lab left.

        With `keep_logs` logs and configuration stay in the run directory until the next `up` or plain `down`. Nothing
        happens where there is nothing; returns whether there was something.
        """
        require_root()
        with self._state.locked():
            self._attach()
            if self.plan:
                self._take_down(keep_logs)
                return True
            found = self._state.has_files and not keep_logs
            if found:
                self._state.remove_files()
            return found

    @contextmanager
    def running(self, **options):
        """A lab that is up within a `with` block; left by an exception, the block leaves the lab's logs."""
        self.up(**options)
        try:
            yield self
        except BaseException:
            self.down(keep_logs=True)
            raise
        self.down()

    @property
    def is_up(self):
        """Whether `up` was completed and nobody took the lab down since."""
        return self._state.data.get("phase") == "up"

    def _clear_leftovers(self):
        """Refuse over a living lab; take away what a killed `up` or a reboot left."""
        self._attach()
        if not self.plan:
            return
        if self.is_up and all(network.namespace_inode(ns) for ns in self._state.data["namespaces"]):
            raise LabError(f"a lab with prefix {self.prefix!r} is up already ({self.hint('down')} ends it; another --prefix "
                           f"makes another lab)")
        self._say("clearing what an unfinished lab left")
        self._take_down()

    def _bring_up(self, with_servers, with_baton, switch_settings, agent_settings):
        self._say(f"network of {self.prefix!r}: clients: {len(self.plan.clients)}, backends: "
                  f"{len(self.plan.backends)} (behind the router: {self.plan.options['routed']})")
        network.build(self.plan, self._note_namespace)
        for host in self.plan.weathered:
            self.start_weather(host.name)
        for host in self.plan.backends:
            self.backend_dir(host.name).mkdir(mode=0o755)
        if with_servers:
            self._say("servers")
            content.generate(self.content_dir)
            servers.make_certificate(self.run_dir / "tls")
            for host in self.plan.backends:
                self.start_nginx(host.name)
            for host in self.plan.of_role("proxy"):
                self.start_haproxy()
        if with_baton:
            self._start_baton(with_servers, switch_settings, agent_settings)

    def _start_baton(self, with_servers, switch_settings, agent_settings):
        self._say("switch and agents")
        _mount_bpffs()
        baton.write_keys(self.run_dir / KEY_FILE)
        self.write_switch_config(switch_settings)
        self.start_switch()
        for host in self.plan.backends:
            self.write_agent_config(host.name, agent_settings)
            self.start_agent(host.name, wait=False)
        if with_servers:
            for host in self.plan.backends:
                self.wait_served_by(host.name)
        self._say(f"ready: {self.url('/')}")

    def _note_namespace(self, namespace):
        self._state.data["namespaces"][namespace] = network.namespace_inode(namespace)
        self._state.save()

    def _take_down(self, keep_logs=False):
        # Agents and servers first, the switch after them: what a backend still has to say finds a listener. The weather,
        # without which a cable is cut, last.
        for name in sorted(self.processes.names(), key=lambda n: (n.startswith("weather@"), n == "switch")):
            if not self.processes.stop(name):
                self._say(f"{name} had to be killed")
        for namespace, inode in list(self._state.data["namespaces"].items()):
            present = network.namespace_inode(namespace)
            if present is not None and inode in (None, present):
                strangers = network.processes_in(namespace)
                if strangers:
                    self._say(f"{namespace} still has processes that this lab did not start: pids {strangers}")
                network.delete_namespace(namespace)
            elif present is not None:
                self._say(f"namespace {namespace} was made again by somebody else: left alone")
        for host in self.plan.backends:
            baton.remove_pins(baton.pin_directory(self.plan, host))
        self._state.forget(keep_logs=keep_logs)
        self.plan = None
        if keep_logs:
            self._say(f"logs and configuration stay in {self.run_dir} until the next `up` or `down` of this prefix")

    def hint(self, command):
        """The command line of `scripts/lab` for this lab, for texts that tell a user what to do next."""
        return f"`scripts/lab {command}`" if self.prefix == DEFAULT_PREFIX else \
            f"`scripts/lab --prefix {self.prefix} {command}`"

    # --- places ------------------------------------------------------------------------------------------

    @property
    def run_dir(self):
        """Where this lab keeps configuration, logs and sockets."""
        return self._state.run_dir

    @property
    def content_dir(self):
        """The files every backend serves under /files/ and /video/."""
        return self.run_dir / "content"

    @property
    def admin_socket(self):
        return self.run_dir / "switch.sock"

    def backend_dir(self, name):
        """Configuration, logs and uploads of one backend."""
        return self.run_dir / name

    def url(self, path, address=VIP):
        """An http URL on the VIP, or on another address."""
        return f"http://{address}{path}"

    def address_of(self, host):
        """A host's address on the network that carries client traffic."""
        self._namespace(host)
        return self.plan.hosts[host].data_address

    def access_log(self, backend):
        """Parsed lines of a backend's access log."""
        return servers.access_log_entries(self.backend_dir(backend))

    # --- doing something on a host -----------------------------------------------------------------------

    def _namespace(self, host):
        if not self.plan:
            raise LabError(f"no lab with prefix {self.prefix!r} is up ({self.hint('up')} makes one)")
        return self.plan.namespace(host)

    def command_line(self, host, argv):
        """The command line that runs `argv` on a host of the lab."""
        return network.inside(self._namespace(host), [str(a) for a in argv])

    def run(self, host, argv, *, timeout_s=60, check=True, text=True, stdin=None):
        """Run `argv` on a host to its end; returns subprocess.CompletedProcess with its output."""
        result = subprocess.run(self.command_line(host, argv), input=stdin, capture_output=True, text=text,
                                timeout=timeout_s)
        if check and result.returncode != 0:
            raise LabError(f"{host}: {' '.join(map(str, argv))}: exit status {result.returncode}: {result.stderr}")
        return result

    def popen(self, host, argv, **options):
        """Start `argv` on a host; the caller owns the subprocess.Popen and ends it."""
        return subprocess.Popen(self.command_line(host, argv), **options)

    def socket(self, host, *arguments):
        """A socket of this process that lives on a host: socket.socket(*arguments), made there."""
        with network.entered(self._namespace(host)):
            return socket.socket(*arguments)

    def connect(self, host, address=VIP, port=VIP_PORT, *, timeout_s=10, options=()):
        """A TCP connection from a host, with socket `options` (level, name, value) set before the SYN."""
        connection = self.socket(host, socket.AF_INET, socket.SOCK_STREAM)
        try:
            for option in options:
                connection.setsockopt(*option)
            connection.settimeout(timeout_s)
            connection.connect((address, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def batonctl(self, *arguments, check=True):
        """Run batonctl against this lab's switch; returns subprocess.CompletedProcess."""
        return self.run("switch", [self.bin_dir / "batonctl", "--socket", self.admin_socket, *arguments],
                        check=check)

    def interface_counters(self, host, interface="data0"):
        """What the kernel counted on a host's interface; see counters.interface_counters."""
        return counters.interface_counters(self._namespace(host), interface)

    def tcp_counters(self, host):
        """The kernel's TCP counters of a host."""
        return counters.tcp_counters(self._namespace(host))

    def cpu_time_us(self, process):
        """CPU time used so far by a process of the lab and its group ("switch", "haproxy", "nginx@backend1")."""
        return counters.cpu_time_us(self.processes.members(process))

    # --- the parts, one by one ---------------------------------------------------------------------------

    def _start(self, name, host, argv, log):
        self.processes.start(name, host, self._namespace(host), [str(a) for a in argv], log)

    def start_weather(self, host):
        """Start the weather on a host's cable and wait until frames pass."""
        directory = self.run_dir / "weather"
        directory.mkdir(mode=0o755, exist_ok=True)
        stats = self._weather_stats(host)
        stats.unlink(missing_ok=True)
        number = [h.name for h in self.plan.weathered].index(host)
        argv = self.plan.forecast.argv(self.bin_dir / weather_of.BINARY, number, *weather_of.ends(host), stats)
        self._start(f"weather@{host}", "weather", argv, directory / f"{host}.log")
        self._wait(f"weather@{host}", stats.exists, "passes frames")

    def weather_report(self, host):
        """What the weather on a host's cable did so far, at most a moment ago: see weather.report."""
        return weather_of.report(self._weather_stats(host))

    def _weather_stats(self, host):
        return self.run_dir / "weather" / f"{host}.json"

    def start_nginx(self, backend):
        """Start a backend's web server and wait until it answers on the backend's own address."""
        directory = self.backend_dir(backend)
        servers.make_nginx_directory(directory)
        config = directory / "nginx.conf"
        config.write_text(servers.nginx_config(backend, directory, self.content_dir, self.run_dir / "tls"))
        self._start(f"nginx@{backend}", backend, ["nginx", "-c", config, "-e", directory / "error.log"],
                    directory / "error.log")
        self._wait_http(f"nginx@{backend}", backend, self.address_of(backend))

    def stop_nginx(self, backend):
        """End a backend's web server: its listener goes, and with it every connection."""
        self.processes.stop(f"nginx@{backend}")

    def start_haproxy(self):
        """Start HAProxy on its host and wait until it passes requests on."""
        directory = self.run_dir / "haproxy"
        directory.mkdir(mode=0o755, exist_ok=True)
        config = directory / "haproxy.cfg"
        config.write_text(servers.haproxy_config(self.address_of("haproxy"), servers.services_of(self.plan.backends),
                                                 self.plan.backends))
        self._start("haproxy", "haproxy", ["haproxy", "-db", "-f", config], directory / "haproxy.log")
        self._wait_http("haproxy", "haproxy", self.address_of("haproxy"))

    def write_switch_config(self, changes=None):
        """Write switch.toml: the lab's defaults with `changes` over them."""
        path = self.run_dir / "switch.toml"
        path.write_text(baton.switch_config(self.plan, self.run_dir, changes))
        return path

    def start_switch(self):
        """Start baton-switch with switch.toml as it is and wait until it answers batonctl."""
        self._start("switch", "switch", [self.bin_dir / "baton-switch", "--config", self.run_dir / "switch.toml"],
                    self.run_dir / "switch.log")
        self._wait("switch", lambda: self.batonctl("status", check=False).returncode == 0, "answers batonctl")

    def stop_switch(self):
        """End the switch with SIGTERM."""
        self.processes.stop("switch")

    def kill_switch(self):
        """End the switch with SIGKILL, as a crash does."""
        self.processes.kill("switch")

    def write_agent_config(self, backend, changes=None):
        """Write a backend's agent.toml: the lab's defaults with `changes` over them."""
        path = self.backend_dir(backend) / "agent.toml"
        path.write_text(baton.agent_config(self.plan, self.plan.hosts[backend], self.run_dir, changes))
        return path

    def start_agent(self, backend, *, wait=True):
        """Start a backend's agent; with `wait`, until a client gets an answer of that backend."""
        directory = self.backend_dir(backend)
        (directory / "agent-state").mkdir(mode=0o700, exist_ok=True)
        self._start(f"agent@{backend}", backend, [self.bin_dir / "baton-agent", "--config", directory / "agent.toml"],
                    directory / "agent.log")
        if wait:
            self.wait_served_by(backend)

    def stop_agent(self, backend):
        """End an agent with SIGTERM."""
        self.processes.stop(f"agent@{backend}")

    def kill_agent(self, backend):
        """End an agent with SIGKILL, as a crash does."""
        self.processes.kill(f"agent@{backend}")

    @contextmanager
    def balancers_parted(self):
        """For measuring: within, switch and HAProxy are charged with their own work; see network.part_balancers."""
        network.part_balancers(self.plan, True)
        try:
            yield
        finally:
            network.part_balancers(self.plan, False)

    def wait_served_by(self, backend):
        """Wait until a client's request through the VIP is answered by this backend."""
        def served():
            result = self.run("client1", ["curl", "-s", "--max-time", "1", self.url(f"/b/{backend}/who")], check=False)
            return result.stdout.strip() == backend
        self._wait("switch", served, f"hands a client to {backend}", also=f"agent@{backend}")

    def _wait_http(self, process, host, address):
        def answers():
            # One health check stands for both servers: it must come from a backend's nginx.
            result = self.run(host, ["curl", "-s", "--max-time", "1", self.url("/healthz", address)], check=False)
            return result.stdout == "ok\n"
        self._wait(process, answers, "answers HTTP")

    def _wait(self, process, condition, what, also=None):
        """Wait for `condition`; a death or a timeout is reported with the end of each process's log."""
        watched = [name for name in (process, also) if name]

        def logs():
            return "".join(f"\n--- end of {self.processes.record(n)['log']}\n{tail(self.processes.record(n)['log'])}"
                           for n in watched)

        def check():
            for name in watched:
                if not self.processes.is_alive(name):
                    raise LabError(f"{name} ended while the lab waited for: {process} {what}{logs()}")
            return condition()
        try:
            wait_until(check, timeout_s=READY_TIMEOUT_S, what=f"{process} {what}")
        except LabError as error:
            if "--- end of" in str(error):
                raise
            raise LabError(f"{error}{logs()}") from None

    # --- what other tools need to know -------------------------------------------------------------------

    def status(self):
        """Everything needed to join in, as plain data: `scripts/lab status --json` prints it."""
        if not self.plan:
            return {"prefix": self.prefix, "phase": "down",
                    "kept_logs": str(self.run_dir) if self._state.has_files else None}
        hosts = {}
        for host in self.plan.hosts.values():
            if host.role == "bridge":
                continue
            processes = self.processes.of_host(host.name)
            hosts[host.name] = {
                "role": host.role, "namespace": self.plan.namespace(host.name),
                "netns_path": network.netns_path(self.plan.namespace(host.name)),
                "addresses": [i.address for i in host.interfaces if i.address], "gateway": host.gateway,
                "interfaces": [{"name": i.name, "network": i.network, "address": i.address, "mac": i.mac}
                               for i in host.interfaces],
                "is_there": network.namespace_inode(self.plan.namespace(host.name)) is not None,
                "processes": processes, "ended": self.processes.ended_of_host(host.name),
                "pids": sorted(pid for name in processes for pid in self.processes.members(name)),
            }
            if host.role == "backend":
                directory = self.backend_dir(host.name)
                hosts[host.name] |= {
                    "access_log": str(directory / "access.log"), "nginx_config": str(directory / "nginx.conf"),
                    "agent_config": str(directory / "agent.toml"), "agent_log": str(directory / "agent.log"),
                    "pin_dir": str(baton.pin_directory(self.plan, host)),
                }
        vip = {"name": VIP_NAME, "address": VIP, "port": VIP_PORT}
        weather = self._weather_status()
        return {
            "prefix": self.prefix, "phase": self._state.data["phase"], "run_dir": str(self.run_dir),
            "faults": _faults(hosts, weather),
            "vip": vip, "vips": [vip], "handoff_port": HANDOFF_PORT,
            "switch": {"config": str(self.run_dir / "switch.toml"), "log": str(self.run_dir / "switch.log"),
                       "admin_socket": str(self.admin_socket), "control": baton.SWITCH_CONTROL,
                       "metrics": f"http://{baton.SWITCH_METRICS}/metrics"},
            "hosts": hosts,
            "weather": weather,
        }

    def _weather_status(self):
        if not self.plan.forecast:
            return None
        cables = {host.name: {"processes": [n for n in (f"weather@{host.name}",) if self.processes.is_alive(n)],
                              "report": self.weather_report(host.name)} for host in self.plan.weathered}
        return {"conditions": self.plan.options["weather"], "at": self.plan.options["weather_at"],
                "namespace": self.plan.namespace("weather"), "cables": cables}


def _faults(hosts, weather):
    """What a lab once had and has no more, a sentence each."""
    faults = []
    for name, host in hosts.items():
        if not host["is_there"]:
            faults.append(f"namespace {host['namespace']} is gone")
        faults += [f"{process.partition('@')[0]} of {name} has ended" for process in host["ended"]]
    for host, cable in (weather["cables"] if weather else {}).items():
        if not cable["processes"]:
            faults.append(f"the weather of {host} has ended")
    return faults


def _mount_bpffs():
    with open("/proc/mounts") as mounts:
        if any(line.split()[1:3] == [str(baton.BPF_FS), "bpf"] for line in mounts):
            return
    command(["mount", "-t", "bpf", "bpf", str(baton.BPF_FS)])
