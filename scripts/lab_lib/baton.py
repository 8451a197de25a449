"""Baton's own part of the lab: keys, configuration files, command lines, and when it is ready."""

import os
import secrets
from pathlib import Path

from .servers import SERVICES, services_of
from .state import KEY_FILE
from .system import LabError
from .toml_text import merged, toml_text
from .topology import CONTROL_PORT, METRICS_PORT, MTU_BYTES, VIP, VIP_NAME, VIP_PORT, address

BINARIES = ("baton-switch", "baton-agent", "batonctl")
BPF_FS = Path("/sys/fs/bpf")
SWITCH_CONTROL = f"{address('mgmt', 1)}:{CONTROL_PORT}"
SWITCH_METRICS = f"{address('mgmt', 1)}:{METRICS_PORT}"


def default_bin_dir():
    """Where `cargo build --release` puts its results, for the checkout this file is in."""
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    return Path(__file__).resolve().parents[2] / target / "release"


def check_binaries(bin_dir):
    """Refuse to start without Baton's programs."""
    missing = [name for name in BINARIES if not os.access(bin_dir / name, os.X_OK)]
    if missing:
        raise LabError(f"{', '.join(missing)} not in {bin_dir}: run scripts/build (or give --bin-dir, "
                       f"or --bare for the network alone)")


def write_keys(path):
    """A fresh shared key, readable by root alone."""
    text = toml_text({"key": [{"id": 1, "secret": secrets.token_hex(32)}]})
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def switch_config(plan, run_dir, changes=None):
    """switch.toml. `changes`: {"table": {key: value}} over the defaults, {"rule": [...]} in place of them."""
    services, backends = services_of(plan.backends), plan.backends
    pools = [{"name": service, "backends": [host.name]} for service, host in services.items()]
    pools += [{"name": host.name, "backends": [host.name]} for host in backends]
    pools.append({"name": "all", "backends": [host.name for host in backends]})
    rules = [{"vip": VIP_NAME, "path_prefix": path, "pool": service} for service, path in SERVICES.items()]
    rules += [{"vip": VIP_NAME, "path_prefix": f"/b/{host.name}/", "pool": host.name} for host in backends]
    rules.append({"vip": VIP_NAME, "pool": "all"})
    document = {
        "switch": {"address": f"{address('data', 1)}/24", "gateway": address("data", 254),
                   "key_file": str(run_dir / KEY_FILE)},
        # The second CPU for the packets where there is one.
        "dpdk": {"device": "net_af_packet0,iface=data0", "main_lcore": 0,
                 "lcores": [1 if (os.cpu_count() or 1) > 1 else 0],
                 # Long rings: here the switch shares its CPU with clients and servers and may wait some ms for it.
                 "rx_descriptors": 4096, "tx_descriptors": 1024, "hugepages": False, "memory_mb": 128,
                 "mtu": MTU_BYTES, "idle": "nap"},
        "control": {"listen": SWITCH_CONTROL, "metrics": SWITCH_METRICS,
                    "admin_socket": str(run_dir / "switch.sock")},
        "flows": {"capacity": 65536, "unconfirmed_timeout_s": 30, "established_timeout_s": 900,
                  "closing_timeout_s": 10},
        "handshake": {"window_scale": 7},
        "vip": [{"name": VIP_NAME, "address": VIP, "port": VIP_PORT}],
        "backend": [{"name": host.name, "address": host.data_address} for host in backends],
        "pool": [{**pool, "policy": "round-robin"} for pool in pools],
        "rule": rules,
    }
    return toml_text(merged(document, changes))


def pin_directory(plan, host):
    """Where a backend's agent pins its BPF programs: one directory a host, as bpffs is not per namespace."""
    return BPF_FS / plan.namespace(host.name)


def agent_config(plan, host, run_dir, changes=None):
    """agent.toml of one backend."""
    document = {
        "agent": {"name": host.name, "interface": "data0", "address": host.data_address,
                  "switch": SWITCH_CONTROL, "key_file": str(run_dir / KEY_FILE),
                  "state_dir": str(run_dir / host.name / "agent-state"),
                  "pin_dir": str(pin_directory(plan, host)), "manage_host": True},
        "vip": [{"address": VIP, "port": VIP_PORT, "health": "tcp"}],
    }
    return toml_text(merged(document, changes))


def remove_pins(directory):
    """Unpin everything an agent left in bpffs: programs go when the last link and namespace is gone."""
    if not directory.is_dir():
        return
    for root, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(os.path.join(root, name))
        for name in directories:
            os.rmdir(os.path.join(root, name))
    os.rmdir(directory)
