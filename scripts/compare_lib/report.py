"""What the comparison finds of each policy, and the table it ends with."""

from dataclasses import dataclass
from statistics import median

from lab_lib.console import aligned

from . import cache

LEGEND = """\
requests/s  of all clients together: median of the rounds, their least and most in parentheses
ms          latency: medians of the rounds' median and 99th percentile
share       of the requests, by backend, in percent. The last backend has other work: connections that stay open.
documents   how many different ones each backend was asked for: its working set
cache hits  what of the requests a cache at each backend would have answered that began empty
documents and cache hits are counted from the servers' logs, over as many requests as the slowest policy served in its slowest round"""


@dataclass(frozen=True)
class Round:
    """What came of one policy in one round."""

    wrk: dict
    # By backend: (path, bytes) in the order they were asked for.
    asked: list

    @property
    def count(self):
        """How many requests the backends got."""
        return sum(map(len, self.asked))

    @property
    def requests_per_s(self):
        """How many were answered in a second."""
        return self.wrk["requests"] / (self.wrk["duration_us"] / 1e6)

    def first(self, count):
        """The same of the first so many requests, of which each backend had its share."""
        return [of_one[:round(len(of_one) * count / self.count)] for of_one in self.asked]


def _middle(lists):
    """The median of each column."""
    return [median(column) for column in zip(*lists)]


def summary(rounds, count, room_bytes):
    """What a policy's rounds come to, judged by their first `count` requests, with caches of so many bytes."""
    firsts = [each.first(count) for each in rounds]
    ratios = [sum(cache.hits(of_one, room_bytes) for of_one in asked) / max(1, sum(map(len, asked))) for asked in firsts]
    return {"requests_per_s": median(each.requests_per_s for each in rounds),
            "requests_per_s_rounds": [each.requests_per_s for each in rounds],
            "p50_us": median(each.wrk["p50_us"] for each in rounds), "p99_us": median(each.wrk["p99_us"] for each in rounds),
            "errors": sum(sum(each.wrk["errors"].values()) for each in rounds),
            "requests_by_backend": [sum(map(len, of_one)) for of_one in zip(*(each.asked for each in rounds))],
            "documents_by_backend": _middle([[len(set(of_one)) for of_one in asked] for asked in firsts]),
            "cache_hit_ratio": median(ratios), "cache_hit_ratio_rounds": ratios}


def table(results):
    """One line per policy."""
    lines = [["policy", "requests/s", "ms p50/p99", "share %", "documents", "cache hits", "errors"]]
    for found in results:
        total = max(1, sum(found["requests_by_backend"]))
        shares = "/".join(f"{100 * count / total:.0f}" for count in found["requests_by_backend"])
        rates, ratios = found["requests_per_s_rounds"], found["cache_hit_ratio_rounds"]
        lines.append([found["policy"], f"{found['requests_per_s']:,.0f} ({min(rates):,.0f}-{max(rates):,.0f})",
                      f"{found['p50_us'] / 1000:.2f}/{found['p99_us'] / 1000:.2f}", shares,
                      "/".join(f"{count:.0f}" for count in found["documents_by_backend"]),
                      f"{100 * found['cache_hit_ratio']:.1f} % ({100 * min(ratios):.1f}-{100 * max(ratios):.1f})",
                      str(found["errors"])])
    return aligned(lines)
