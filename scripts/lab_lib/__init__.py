"""The Baton lab: clients, a router, a switch and backends as network namespaces of one machine.

    from lab_lib import Lab
    lab = Lab(prefix="mine")
    lab.up(backends=3, clients=2)
    lab.run("client1", ["curl", "-s", lab.url("/who")])
    lab.down()
"""

from .lab import Lab
from .system import LabError

__all__ = ["Lab", "LabError"]
