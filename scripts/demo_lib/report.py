"""What the demonstration claims, whether it holds, and the table it ends with."""

# Bytes the switch may receive per byte of response, close and keep-alive alike. Backends keep TSO in the
# lab, so acknowledgements are few; what is left is handshake, request and those.
BYTES_RATIO_MAX = {"64k": 0.03, "1m": 0.01}


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
        where = f"{cell['size']} {cell['mode']} {cell['target']}"
        if cell["errors"]:
            broken.append(f"{where}: {cell['errors']} errors")
        if cell["mode"] == "close" and cell["connections"] < cell["requests"]:
            broken.append(f"{where}: {cell['requests']} requests on only {cell['connections']} connections")
        limit = BYTES_RATIO_MAX.get(cell["size"])
        if cell["target"] == "baton" and limit and cell["balancer_bytes_per_response_byte"] > limit:
            broken.append(f"{where}: the switch received {cell['balancer_bytes_per_response_byte']:.2%} of the "
                          f"response bytes, more than {limit:.0%}")
    return broken


def _milliseconds(us):
    return f"{us / 1000:.2f}"


def load_table(load):
    """The load runs as text: one line per size and mode, one group of columns per target."""
    targets = list(dict.fromkeys(cell["target"] for cell in load))
    cells = {(c["size"], c["mode"], c["target"]): c for c in load}
    rows = list(dict.fromkeys((c["size"], c["mode"]) for c in load))
    balancers = [name for name in targets if name != "direct"]
    head = ["size", "mode", *(f"{t} req/s" for t in targets), *(f"{t} p50/p99 ms" for t in targets),
            *(f"{b} CPU us/req" for b in balancers), *(f"{b} bytes" for b in balancers)]
    lines = [head]
    for size, mode in rows:
        of = {t: cells[size, mode, t] for t in targets}
        lines.append([size, mode, *(f"{of[t]['requests_per_s']:,.0f}" for t in targets),
                      *(f"{_milliseconds(of[t]['p50_us'])}/{_milliseconds(of[t]['p99_us'])}" for t in targets),
                      *(f"{of[b]['balancer_cpu_us_per_request']:.1f}" for b in balancers),
                      *(f"{of[b]['balancer_bytes_per_response_byte']:.2%}" for b in balancers)])
    return aligned(lines)


def aligned(lines):
    """Rows of strings as text with columns set to the right, a rule under the first."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(value.rjust(width) for value, width in zip(line, widths)) for line in lines]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def transfer_table(transfers):
    """The transfers as text."""
    lines = [["file", "bytes", "sha256", "client received", "switch received", "share"]]
    for t in transfers:
        lines.append([t["name"], f"{t['bytes']:,}", "equal" if t["sha256_equal"] else "DIFFERENT",
                      f"{t['client_bytes']:,}", f"{t['switch_bytes']:,}", f"{t['switch_bytes'] / t['bytes']:.2%}"])
    return aligned(lines)
