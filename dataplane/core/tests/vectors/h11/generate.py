#!/usr/bin/python3
"""Makes requests.json: streams of requests, and what h11, an implementation of HTTP/1.1 in Python, makes of them.

See README.md beside this file. Needs Debian's python3-h11 and nothing else.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from urllib.parse import urlsplit

import h11

HERE = Path(__file__).resolve().parent
SEED = 9112
H11 = "0.14.0"  # other versions word errors otherwise and may judge otherwise

WORDS = ["a", "list", "img", "style.css", "x%20y", "%C3%A9", "~user", "a;b=c", "..", "index.html"]
NAMES = ["example.org", "www.Example.org", "a", "xn--bcher-kva.example", "10.0.0.1", "a-b.c_d.example"]
FIELDS = ["Accept: */*", "Cookie: k=v; l=\"w\"", "User-Agent: curl/7.88.1", "X-Empty:", "x-blank: \t a  b \t",
          "Via: 1.1 \xe9", "TE: trailers", "Connection: close", "Accept-Encoding: gzip, chunked", "X-Length: 7"]
EXTENSIONS = [";a", ";a=b", ";a=\"b;c\"", ";a;b=1;c", ";long=" + "x" * 40]
TRAILERS = ["X-Sum: 1a2b", "Expires: never", "Empty:", "X-Blank: \t a \t"]


class Maker:
    """Makes requests from a seed, well-formed unless told otherwise."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def target(self):
        target = "/" + "/".join(self.random.choice(WORDS) for _ in range(self.random.randrange(4)))
        return target + self.random.choice(["", "", "?", "?q=/a?b", "?u=http://b/"])

    def head(self, method="POST", target=None, version="HTTP/1.1", host=None, fields=()):
        host = self.random.choice(NAMES) + self.random.choice(["", "", ":80", ":8080"]) if host is None else host
        lines = self.random.sample(FIELDS, self.random.randrange(4)) + list(fields)
        self.random.shuffle(lines)
        lines.insert(self.random.randrange(len(lines) + 1), f"{self.random.choice(['Host', 'host', 'HOST'])}: {host}")
        return "\r\n".join([f"{method} {target or self.target()} {version}", *lines]) + "\r\n\r\n"

    def data(self, most=30):
        """Bytes that could be taken for more than data."""
        parts = ["\r\n", "0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\n", "5", "\0", "\xff", "hello", " ", "chunk"]
        text = "".join(self.random.choice(parts) for _ in range(self.random.randrange(1, 8)))
        return text[:self.random.randrange(1, most)] or "x"

    def counted(self, **other):
        data = self.data()
        return self.head(fields=[f"Content-Length: {len(data)}"], **other) + data

    def chunk(self, data=None):
        data = self.data() if data is None else data
        size = format(len(data), self.random.choice(["x", "X", "02x", "08X"]))
        return size + self.random.choice(["", "", *EXTENSIONS]) + "\r\n" + data + "\r\n"

    def coded_body(self, count=None):
        count = self.random.randrange(4) if count is None else count
        last = self.random.choice(["0", "00", "0;last"]) + "\r\n"
        trailers = "".join(f"{line}\r\n" for line in self.random.sample(TRAILERS, self.random.choice([0, 0, 1, 3])))
        return "".join(self.chunk() for _ in range(count)) + last + trailers + "\r\n"

    def coded(self, body=None, **other):
        coding = self.random.choice(["chunked", "Chunked", "CHUNKED"])
        return self.head(fields=[f"Transfer-Encoding: {coding}"], **other) + (self.coded_body() if body is None else body)

    def bodiless(self, **other):
        return self.head(method=self.random.choice(["GET", "HEAD", "DELETE", "OPTIONS"]), **other)

    def any_valid(self):
        return self.random.choice([self.bodiless, self.counted, self.coded])()


def targets(maker):
    yield "absolute-form", maker.bodiless(target="http://b.example:80/p?q=1", host="b.example:80")
    yield "absolute-form without a path", maker.bodiless(target="http://b.example", host="b.example")
    yield "absolute-form that differs from Host", maker.bodiless(target="http://b.example/p", host="a.example")
    yield "asterisk-form", maker.head(method="OPTIONS", target="*")
    yield "path that begins with two slashes", maker.bodiless(target="//b/c")
    yield "IPv6 host", maker.bodiless(host="[2001:db8::1]:80")
    yield "empty host", maker.bodiless(host="")
    yield "connect", maker.head(method="CONNECT", target="a.example:443", host="a.example:443") + "opaque"
    yield "upgrade", maker.bodiless(fields=["Upgrade: websocket", "Connection: upgrade"]) + "opaque"


def heads(maker):
    for kind, host in (("host with a user", "u@a"), ("host with a path", "a/b"), ("host list", "a, b")):
        yield kind, maker.bodiless(host=host)
    yield "no host", "GET /no-host HTTP/1.1\r\nAccept: */*\r\n\r\n"
    yield "no host in 1.0", "GET /no-host HTTP/1.0\r\nAccept: */*\r\n\r\n"
    yield "two hosts", maker.bodiless(fields=["Host: b"])
    yield "two hosts in 1.0", maker.bodiless(version="HTTP/1.0", fields=["Host: b"])
    yield "LF alone ends lines", maker.counted().replace("\r\n\r\n", "\n\n", 1)
    yield "LF alone ends a line", maker.head(fields=["A: b\nC: d"])
    yield "LF alone hides a length", maker.head(fields=["A: b\nContent-Length: 5"]) + "hello"
    yield "CR within a value", maker.head(fields=["A: b\rContent-Length: 5"])
    yield "folded line", maker.head(fields=["A: b", "Content-Length: 5\r\n 0"]) + "hello"
    yield "blank in front of the colon", maker.head(fields=["Content-Length : 5"]) + "hello"
    yield "blank in front of a name", maker.head(fields=["A: b\r\n Content-Length: 5"]) + "hello"
    yield "no colon", maker.head(fields=["Content-Length"])
    yield "no name", maker.head(fields=[": 5"])
    yield "NUL in a value", maker.head(fields=["A: b\0c"])
    yield "control character in a value", maker.head(fields=["A: b\x01c"])
    yield "DEL in a value", maker.head(fields=["A: b\x7fc"])
    yield "DEL in the target", maker.head(target="/a\x7f")
    yield "UTF-8 in the target", maker.head(target="/\xc3\xa9")
    yield "byte above 127 in the target", maker.head(target="/\xe9")
    yield "blank in the target", maker.head(target="/a b")
    yield "two blanks in the request line", maker.head(target=" /a")
    yield "tab in the request line", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "lower-case version", maker.head(version="http/1.1")
    yield "HTTP/1.2", maker.head(version="HTTP/1.2")
    yield "HTTP/2.0", maker.head(version="HTTP/2.0")
    yield "HTTP/0.9", "GET /\r\n\r\n"
    yield "version without a minor", maker.head(version="HTTP/1")
    yield "empty line in front", "\r\n" + maker.bodiless()
    yield "relative target", maker.head(target="a/b")
    yield "other scheme", maker.head(target="ftp://a/b")
    yield "TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def lengths(maker):
    for kind, values in (
            ("a length of 0", ["0"]), ("leading zeros", ["0005"]), ("two lengths", ["5", "6"]),
            ("two lengths, alike", ["5", "5"]), ("a list of lengths, alike", ["5, 5"]), ("a list of lengths", ["5, 6"]),
            ("a length with plus", ["+5"]), ("a length with minus", ["-5"]), ("a hexadecimal length", ["0x5"]),
            ("an empty length", [""]), ("a length with a blank", ["5 5"]), ("a length with an underscore", ["5_0"]),
            ("a length of 2^63 - 1", [str(2**63 - 1)]), ("a length of 2^63", [str(2**63)]),
            ("a length of 2^64 + 5", [str(2**64 + 5)]), ("a length with a letter", ["5a"]),
            ("a length in other digits", ["\xb2"])):
        yield kind, maker.head(fields=[f"Content-Length: {value}" for value in values]) + "hello"
    yield "a length in 1.0", maker.counted(version="HTTP/1.0")


def codings(maker):
    body = maker.coded_body(1)
    for kind, values in (
            ("another coding", ["gzip"]), ("chunked first", ["chunked, gzip"]), ("chunked last", ["gzip, chunked"]),
            ("chunked twice", ["chunked, chunked"]), ("two fields of chunked", ["chunked", "chunked"]),
            ("identity", ["identity"]), ("an empty coding", [""]), ("chunked with a parameter", ["chunked;a=b"]),
            ("chunked with a stroke", ["xchunked"]), ("chunked in quotes", ["\"chunked\""])):
        yield kind, maker.head(fields=[f"Transfer-Encoding: {value}" for value in values]) + body
    yield "length and chunked", maker.head(fields=["Content-Length: 5", "Transfer-Encoding: chunked"]) + body
    yield "length and another coding", maker.head(fields=["Content-Length: 5", "Transfer-Encoding: identity"]) + body
    yield "chunked in 1.0", maker.coded(version="HTTP/1.0")


def chunks(maker):
    for kind, body in (
            ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"), ("a size with plus", "+5\r\nhello\r\n0\r\n\r\n"),
            ("a size with minus", "-5\r\nhello\r\n0\r\n\r\n"), ("no size", "\r\nhello\r\n0\r\n\r\n"),
            ("a size with an underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
            ("a blank in front of a size", " 5\r\nhello\r\n0\r\n\r\n"),
            ("a blank behind a size", "5 \r\nhello\r\n0\r\n\r\n"),
            ("a size of 2^63", "8000000000000000\r\nhello"), ("a size of 2^64 + 5", "10000000000000005\r\nhello"),
            ("a size of 17 digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
            ("a size of 21 digits", "000000000000000000005\r\nhello\r\n0\r\n\r\n"),
            ("LF alone behind a size", "5\nhello\r\n0\r\n\r\n"), ("LF alone behind data", "5\r\nhello\n0\r\n\r\n"),
            ("CR alone behind a size", "5\rhello\r\n0\r\n\r\n"), ("CR within an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
            ("LF alone behind an extension", "5;a\nhello\r\n0\r\n\r\n"),
            ("LF and CR LF behind an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
            ("NUL in an extension", "5;a\0\r\nhello\r\n0\r\n\r\n"),
            ("a blank in front of an extension", "5 ;a\r\nhello\r\n0\r\n\r\n"),
            ("an extension without a name", "5;\r\nhello\r\n0\r\n\r\n"),
            ("a blank for an extension", "5 a\r\nhello\r\n0\r\n\r\n"),
            ("a chunk longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
            ("a chunk shorter than its size", "7\r\nhello\r\n0\r\n\r\n"),
            ("LF alone ends the trailers", "0\r\nA: b\n\n"), ("LF alone for the empty line", "0\r\n\n"),
            ("a folded trailer", "0\r\nA: b\r\n c\r\n\r\n"), ("a trailer without a colon", "0\r\nA\r\n\r\n"),
            ("a blank in front of a trailer", "0\r\n A: b\r\n\r\n"),
            ("NUL in a trailer", "0\r\nA: \0\r\n\r\n"), ("a control character in a trailer", "0\r\nA: b\x01c\r\n\r\n"),
            ("a blank in front of a trailer's colon", "0\r\nA : b\r\n\r\n"),
            ("long extensions", "5;" + "x" * 2000 + "\r\nhello\r\n0\r\n\r\n"),
            ("many trailers", "0\r\n" + "A: b\r\n" * 65 + "\r\n")):
        yield kind, maker.coded(body) + maker.bodiless()


def streams():
    maker = Maker(SEED)
    for _ in range(25):
        yield "no body", maker.bodiless()
        yield "counted body", maker.counted()
        yield "chunked body", maker.coded()
    for _ in range(30):
        yield "pipelined", "".join(maker.any_valid() for _ in range(maker.random.randrange(2, 5)))
    for _ in range(15):
        stream = maker.any_valid() + maker.any_valid()
        yield "cut off", stream[:maker.random.randrange(1, len(stream))]
    for room in (targets, heads, lengths, codings, chunks):
        yield from room(maker)
    # A good request in front: what is wrong must be found where it is.
    for room in (lengths, codings, chunks):
        for kind, stream in room(maker):
            yield kind, maker.any_valid() + stream
    # One byte of a good stream is another: few of these are still good, and some mean something else.
    for _ in range(150):
        stream = maker.coded() if maker.random.randrange(3) else maker.counted()
        place = maker.random.randrange(len(stream))
        yield "one byte changed", stream[:place] + maker.random.choice("\r\n \t:;0159afX\0\x7f\xe9") + stream[place + 1:]


def where(request):
    """Host and path as Python's own library takes them apart."""
    target = request.target.decode("latin-1")
    host = next((value.decode("latin-1") for name, value in request.headers if name == b"host"), None)
    if request.method == b"CONNECT":
        host, path = target, ""
    elif target.startswith("/") or target == "*":
        path = target.partition("?")[0]
    else:
        parts = urlsplit(target)
        host, path = parts.netloc, parts.path or "/"
    try:
        return None if host is None else urlsplit(f"//{host}").hostname or "", path
    except ValueError:
        return host, path


def read_one(stream):
    """Lets h11 read one request: what it found, what is left, and how that ended."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    found = {}
    try:
        while True:
            event = connection.next_event()
            left = len(connection.trailing_data[0])
            if event is h11.NEED_DATA:
                return found, b"", "more"
            if isinstance(event, h11.Request):
                host, path = where(event)
                named = {name: value.decode("latin-1") for name, value in event.headers}
                framing = "chunked" if b"transfer-encoding" in named else named.get(b"content-length", "none")
                found.update(head=len(stream) - left, method=event.method.decode(), host=host, path=path, framing=framing)
            elif isinstance(event, h11.EndOfMessage):
                found["end"] = len(stream) - left
                return found, connection.trailing_data[0], "end"
            elif not isinstance(event, h11.Data):
                raise AssertionError(f"h11 says {event!r}")
    except h11.RemoteProtocolError as error:
        return found, b"", f"error: {error}"


def verdict(stream):
    """Every request of a stream, places counted from its first byte, and what comes behind the last whole one."""
    requests, at = [], 0
    while True:
        found, rest, then = read_one(stream[at:])
        if found:
            requests.append({key: value + at if key in ("head", "end") else value for key, value in found.items()})
        if then != "end" or not rest:
            return requests, then
        at = len(stream) - len(rest)


def document():
    cases = []
    for kind, text in streams():
        requests, then = verdict(text.encode("latin-1"))
        cases.append(dict(kind=kind, stream=text, requests=requests, then=then))
    return dict(note=f"Made by generate.py with h11 {h11.__version__}; do not edit. A character of `stream` is a byte.",
                cases=cases)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with requests.json; exit status 1 if it differs")
    options = parser.parse_args()
    if h11.__version__ != H11:
        sys.exit(f"generate.py: this is h11 {h11.__version__}; requests.json is of {H11}, which Debian 12 has")
    content = document()
    lines = ",\n".join(json.dumps(case) for case in content["cases"])
    text = f'{{"note": {json.dumps(content["note"])}, "cases": [\n{lines}\n]}}\n'
    if not options.check:
        sys.stdout.write(text)
    elif (HERE / "requests.json").read_text() != text:
        sys.exit("generate.py: requests.json is not what this script makes")


if __name__ == "__main__":
    main()
