"""Files through the VIP: equal byte for byte, by the right server, which sees the true client."""

import json
import time

from lab_lib import LabError
from lab_lib.content import SIZES, sha256_of
from lab_lib.servers import SERVICES, services_of

CLIENT = "client1"
_SETTLE_S = 0.2
_SETTLE_TRIES = 10


def fetch(lab, url, destination, *, client=CLIENT):
    """Fetch `url` into a file; returns what curl measured and the X-Backend header of the answer."""
    report = ('{"status":%{response_code},"bytes":%{size_download},"local_address":"%{local_ip}",'
              '"local_port":%{local_port},"seconds":%{time_total}}')
    headers = f"{destination}.headers"
    result = lab.run(client, ["curl", "-sS", "--max-time", "60", "-o", destination, "-D", headers, "-w", report, url])
    measured = json.loads(result.stdout)
    with open(headers) as file:
        lines = dict(line.lower().rstrip().split(": ", 1) for line in file if ": " in line)
    return {**measured, "backend": lines.get("x-backend")}


def _settled_rx_bytes(lab, host):
    """A host's received bytes, once the last acknowledgements of a transfer are in."""
    value = lab.interface_counters(host)["rx_bytes"]
    for _ in range(_SETTLE_TRIES):
        time.sleep(_SETTLE_S)
        previous, value = value, lab.interface_counters(host)["rx_bytes"]
        if value == previous:
            return value
    raise LabError(f"{host} still receives {_SETTLE_S * _SETTLE_TRIES} s after a transfer ended")


def transfer(lab, name, service, directory):
    """Fetch one file by one service's path and compare it with the original."""
    expected_backend = services_of(lab.plan.backends)[service].name
    destination = directory / f"fetched-{name}"
    before = _settled_rx_bytes(lab, "switch"), lab.interface_counters(CLIENT)["rx_bytes"]
    got = fetch(lab, lab.url(SERVICES[service] + name), destination)
    after = _settled_rx_bytes(lab, "switch"), lab.interface_counters(CLIENT)["rx_bytes"]
    equal = got["status"] == 200 and sha256_of(destination) == sha256_of(lab.content_dir / name)
    destination.unlink()
    return {"name": name, "bytes": SIZES[name], "sha256_equal": equal, "switch_bytes": after[0] - before[0],
            "client_bytes": after[1] - before[1], "seconds": got["seconds"], "backend": got["backend"],
            "expected_backend": expected_backend, "client_address_seen": _logged(lab, expected_backend, got)}


def _logged(lab, backend, got):
    """Whether the backend's own log names the very address and port that curl used."""
    return any(entry["client"] == got["local_address"] and entry["port"] == got["local_port"]
               for entry in lab.access_log(backend))


def all_transfers(lab, directory, progress):
    """Every size, by turns through the paths of files and video, and a database-like answer."""
    results = []
    for index, name in enumerate(SIZES):
        result = transfer(lab, name, ("files", "video")[index % 2], directory)
        results.append(result)
        verdict = "equal" if result["sha256_equal"] else "DIFFERENT"
        progress(f"{name:>5} from {result['backend']}: {verdict}, {result['seconds']:.3f} s; client received "
                 f"{result['client_bytes']:,} bytes, switch {result['switch_bytes']:,}")
    return results


def database_answer(lab, directory):
    """A small computed answer by the third rule: who gave it, and whether it saw the true client."""
    expected = services_of(lab.plan.backends)["db"].name
    destination = directory / "answer"
    got = fetch(lab, lab.url("/db/accounts?id=42"), destination)
    body = json.loads(destination.read_text())
    return {"expected_backend": expected, "backend": body["server"], "id": body["id"],
            "client_address_seen": _logged(lab, expected, got)}
