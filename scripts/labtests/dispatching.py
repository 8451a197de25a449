"""Rules and pools of one test, in a lab whose switch is told of them while it runs."""

from contextlib import contextmanager

from helpers import eventually, told

from lab_lib.topology import TLS_PORT, VIP, VIP_NAME, VIP_PORT

BACKENDS = ("backend1", "backend2", "backend3")
TLS_NAME = "secure"
_VIPS = [{"name": VIP_NAME, "address": VIP, "port": VIP_PORT},
         {"name": TLS_NAME, "address": VIP, "port": TLS_PORT, "inspect": "tls"}]
_POOLS = [{"name": name, "backends": [name]} for name in BACKENDS] + [{"name": "all", "backends": list(BACKENDS)}]
# What the lab of these tests has in force when no test says otherwise.
OWN = {"vip": _VIPS, "pool": _POOLS,
       "rule": [{"vip": VIP_NAME, "pool": "all"}, {"vip": TLS_NAME, "pool": "all"}]}


def one_each(*conditions, **sections):
    """Rules that send what each condition describes to a backend of its own, and the rest to the last."""
    rules = [{**condition, "pool": backend} for condition, backend in zip(conditions, BACKENDS)]
    return {"rule": [*rules, {"pool": BACKENDS[-1]}], **sections}


def pool_of_all(policy, **settings):
    """One pool of all backends, under this policy, for everything."""
    return {"pool": [*_POOLS[:-1], {"name": "all", "backends": list(BACKENDS), "policy": policy, **settings}]}


@contextmanager
def applied(lab, *changes):
    """These sections in force in place of the lab's own, for a while."""
    sections = dict(OWN)
    for change in changes:
        sections.update(change)
    apply(lab, sections)
    try:
        yield
    finally:
        apply(lab, OWN)


def apply(lab, sections):
    """Put these sections over the lab's configuration and have the switch read it again."""
    lab.write_switch_config(sections)
    lab.batonctl("config", "reload")
    usable(lab)


def usable(lab, names=BACKENDS):
    """Wait until these backends get new connections."""
    def are():
        return all(b["usable"] for b in told(lab, "backends") if b["name"] in names)
    eventually(are, timeout_s=5, what=f"{names} are usable")
