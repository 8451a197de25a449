"""The table the comparison ends with, and what its columns mean."""

from lab_lib.console import aligned

LEGEND = """\
requests/s  of all clients together; ms: latency, median and 99th percentile
share       of the requests, by backend, in percent. The last backend has other work: connections that stay open.
documents   how many different ones each backend was asked for: its working set
cache hits  what of the requests a cache at each backend would have answered that began empty; counted from the servers' logs"""


def table(results):
    """One line per policy."""
    lines = [["policy", "requests/s", "ms p50/p99", "share %", "documents", "cache hits", "errors"]]
    for found in results:
        total = max(1, sum(found["requests_by_backend"]))
        shares = "/".join(f"{100 * count / total:.0f}" for count in found["requests_by_backend"])
        lines.append([found["policy"], f"{found['requests_per_s']:,.0f}",
                      f"{found['p50_us'] / 1000:.2f}/{found['p99_us'] / 1000:.2f}", shares,
                      "/".join(str(count) for count in found["documents_by_backend"]),
                      f"{found['cache_hit_ratio']:.1%}", str(found["errors"])])
    return aligned(lines)
