"""What the clients ask for: documents of different size and popularity, the same ones in the same order every time."""

import itertools
import json
import random
from dataclasses import dataclass

from lab_lib.content import SIZES
from lab_lib.load import REPORT_SCRIPT

# Mostly small, some large, as on the web.
_SIZE_NAMES = ("1k", "4k", "1k", "16k", "4k", "1k", "64k", "4k")
LARGE = ("16k", "64k")
_DRAWN = 50_000


@dataclass(frozen=True)
class Document:
    """Something a client may ask for. The server strips /b/NAME/, so that any number of names stand for one file."""

    path: str
    bytes: int


def documents(count):
    """So many documents, the most popular first."""
    names = itertools.cycle(_SIZE_NAMES)
    return [Document(f"/b/document{number}/files/{name}", SIZES[name]) for number, name in zip(range(count), names)]


def drawn(asked, exponent, seed):
    """Positions of documents in the order they are asked for: the n-th most popular as often as 1/n^exponent."""
    weights = [1 / (rank ** exponent) for rank in range(1, len(asked) + 1)]
    return random.Random(seed).choices(range(len(asked)), weights, k=_DRAWN)


def write_script(path, asked, order):
    """A script by which wrk asks for these documents in this order, from the beginning again at the end."""
    paths = ",\n".join(json.dumps(document.path) for document in asked)
    numbers = ",".join(str(position + 1) for position in order)
    path.write_text(f"""dofile({json.dumps(str(REPORT_SCRIPT))})
local paths = {{
{paths}
}}
local order = {{{numbers}}}
local at = 0
function request()
   at = at % #order + 1
   return wrk.format("GET", paths[order[at]])
end
""")
