"""What the demonstration claims, whether it holds, and the table it ends with."""

from lab_lib.console import aligned

# Bytes the switch may receive per byte of response, close and keep-alive alike. Backends keep TSO in the
# lab, so acknowledgements are few; what is left is handshake, request and those.
BYTES_RATIO_MAX = {"64k": 0.03, "1m": 0.01}
NAMES = {"direct": "direct", "baton": "Baton", "haproxy": "HAProxy"}


def broken_claims(result):
    """The claims that do not hold, each in a sentence. Empty: all hold."""
    broken = []
    for transfer in result["transfers"]:
        if not transfer["sha256_equal"]:
            broken.append(f"{transfer['name']} through the VIP differs from the original")
        if transfer["backend"] != transfer["expected_backend"]:
            broken.append(f"{transfer['name']} came from {transfer['backend']}, not {transfer['expected_backend']}")
    if not result["client_address_seen"]:
        broken.append("a server did not log the client's true address and port")
    database = result["database"]
    if database and (database["backend"] != database["expected_backend"] or database["id"] != "42"):
        broken.append(f"the database-like answer is wrong: {database}")
    for cell in result["load"]:
        where = f"{cell['file']} {cell['mode']} {cell['target']}"
        if cell["errors"] and cell["target"] == "baton":
            broken.append(f"{where}: {cell['errors']} errors")
        if cell["mode"] == "close" and cell["connections"] < cell["requests"]:
            broken.append(f"{where}: {cell['requests']} requests on only {cell['connections']} connections")
        limit = BYTES_RATIO_MAX.get(cell["file"])
        if cell["target"] == "baton" and limit and cell["balancer_bytes_per_response_byte"] > limit:
            broken.append(f"{where}: the switch received {cell['balancer_bytes_per_response_byte']:.2%} of the "
                          f"response bytes, more than {limit:.0%}")
    return broken


def errors_of_others(load):
    """Errors on the ways without Baton, each in a sentence: they tell of the lab or the peer, and break no claim."""
    return [f"{cell['file']} {cell['mode']} {NAMES[cell['target']]}: {cell['errors']} errors in {cell['requests']} requests"
            for cell in load if cell["errors"] and cell["target"] != "baton"]


def _milliseconds(us):
    return f"{us / 1000:.2f}"


def _table(load, head_of, columns_of):
    """One line per size and mode. `columns_of(cells of the line by target)` are its columns after these two."""
    lines = [["file", "mode", *head_of]]
    for file, mode in dict.fromkeys((cell["file"], cell["mode"]) for cell in load):
        of = {cell["target"]: cell for cell in load if (cell["file"], cell["mode"]) == (file, mode)}
        lines.append([file, mode, *columns_of(of)])
    return aligned(lines)


def _targets(load):
    return list(dict.fromkeys(cell["target"] for cell in load))


def _spread(cell):
    """A median and, if there were several rounds, the least and the most, all in requests/s."""
    rounds = cell["requests_per_s_rounds"]
    around = f" ({min(rounds):,.0f}-{max(rounds):,.0f})" if len(rounds) > 1 else ""
    return f"{cell['requests_per_s']:,.0f}{around}"


def _times(value):
    return "" if value is None else f"{value:.2f}x"


def speed_table(load):
    """Requests per second and latency of every target, and Baton's beside the others'."""
    targets = _targets(load)
    beside = [name for name in ("direct", "haproxy") if name in targets and "baton" in targets]

    def columns(of):
        return [*(_spread(of[t]) for t in targets), *(_times(of["baton"].get(f"requests_vs_{b}")) for b in beside),
                *(f"{_milliseconds(of[t]['p50_us'])}/{_milliseconds(of[t]['p99_us'])}" for t in targets)]
    head = [*(NAMES[t] for t in targets), *(f"Baton/{NAMES[b]}" for b in beside),
            *(f"{NAMES[t]} ms" for t in targets)]
    return _table(load, head, columns)


def cost_table(load):
    """CPU time and bytes of the balancers; empty without one."""
    balancers = [name for name in _targets(load) if name != "direct"]
    if not balancers:
        return ""

    def columns(of):
        compared = [f"{1 / of['baton']['cpu_vs_haproxy']:.1f}x"] \
            if len(balancers) == 2 and of["baton"].get("cpu_vs_haproxy") else []
        return [*(f"{of[b]['balancer_cpu_us_per_request']:.1f}" for b in balancers), *compared,
                *(f"{of[b]['balancer_busy_us_per_request']:.1f}" for b in balancers if b == "baton"),
                *(f"{of[b]['balancer_bytes_per_response_byte']:.2%}" for b in balancers)]
    head = [*(f"{NAMES[b]} CPU us" for b in balancers), *(["HAProxy/Baton"] if len(balancers) == 2 else []),
            *("Baton busy us" for b in balancers if b == "baton"), *(f"{NAMES[b]} bytes" for b in balancers)]
    return _table(load, head, columns)


def transfer_table(transfers):
    """The transfers as text."""
    lines = [["file", "bytes", "sha256", "client received", "switch received", "share"]]
    for t in transfers:
        lines.append([t["name"], f"{t['bytes']:,}", "equal" if t["sha256_equal"] else "DIFFERENT",
                      f"{t['client_bytes']:,}", f"{t['switch_bytes']:,}", f"{t['switch_bytes'] / t['bytes']:.2%}"])
    return aligned(lines)
