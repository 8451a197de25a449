#!/usr/bin/env python3
"""Writes the inputs that fuzzing begins with.

  dataplane/fuzz/seeds.py DIRECTORY   write them, into one directory per target: dataplane/fuzz/corpus after a change here
  dataplane/fuzz/seeds.py --check     is the committed corpus these, and beside them nothing without a reason? (exit status 1)

What a target takes is told at the top of its module in checks/src; this is the other end of it. Beside the seeds the corpus
holds finds that reach further (`scripts/fuzz --keep`), each under the 40 digits of its hash, and what once broke something
(`broke-...`).
"""

import hashlib
import json
import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "dataplane/fuzz/corpus"

# Numbers of the steps of `frame`.
SYN, REQUEST, SEGMENT, ANY, MENDED, CHANGED, WAIT, ANSWER, BACKENDS, ICMP, ARP, BUFFERS = 0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13
# Bits of the byte in front of the steps.
FEW_FLOWS, ONE_HOLD, SMALL_MTU, LEARNING, TWO_LCORES, SECOND_LCORE = 1, 2, 4, 8, 16, 32
# Numbers of flags.
DATA, FIN, RST, RST_ACK = 0, 1, 2, 3
# Numbers of texts.
NOTHING, GET, GET_ROUTED, GET_DEAD, HEAD_NOWHERE, BEGINNING, MIDDLE, END, POST, NONSENSE = range(10)
REFUSED, GONE, MINE = 7, 6, 9


def words(text):
    """A payload of bytes of its own."""
    return bytes([0x40 + len(text)]) + text + b"\0"


def segment(who=0, flags=DATA, back=0, acked=0, later=1, text=bytes([NOTHING])):
    return bytes([SEGMENT, who, flags]) + struct.pack(">hbB", back, acked, later) + text


def request(who=0, text=GET):
    return bytes([REQUEST, who, text])


def wait(unit, count):
    return bytes([WAIT, unit, count])


def answer(kind, which=0, detail=0, seq=0, ack=0, generation=0, lcore=0, care=0):
    return bytes([ANSWER, which, kind, detail]) + struct.pack(">hhbBB", seq, ack, generation, lcore, care)


def frame_seeds():
    kinds = (0, FEW_FLOWS | ONE_HOLD, SMALL_MTU, LEARNING, TWO_LCORES, TWO_LCORES | SECOND_LCORE)
    stories = {
        "established": request() + segment(flags=4, acked=100) + segment(text=bytes([POST])) + segment(flags=FIN),
        "routed": request(text=GET_ROUTED) + segment(flags=4, acked=100) + segment(text=bytes([POST])) + bytes([ICMP, 0, 3, 4, 40]),
        "held": request(text=BEGINNING) + segment(text=bytes([MIDDLE])) + wait(1, 30) + segment(text=bytes([END])) + wait(2, 20),
        "held-in-disorder": request(text=BEGINNING) + segment(back=8, text=bytes([END])) + segment(text=bytes([MIDDLE])) + wait(2, 9),
        "held-long": request(text=BEGINNING) + b"".join(segment(text=bytes([0x48]) + b"aaaaaaaa\xff") for _ in range(5)),
        "page": request(text=HEAD_NOWHERE) + wait(1, 100) + segment(flags=FIN, acked=127) + wait(2, 9),
        "no-backend": request(text=GET_DEAD) + wait(2, 3) + segment(flags=RST),
        "nonsense": request(text=NONSENSE) + segment(flags=FIN),
        "refused": request() + answer(REFUSED) + answer(REFUSED, which=1) + answer(REFUSED, which=2) + wait(2, 5),
        "gone": request() + segment(flags=4, acked=100) + answer(GONE, which=0x80, lcore=255, care=1) + wait(2, 5),
        "mine": segment(acked=5) + answer(MINE, detail=1) + segment(acked=5) + wait(2, 5),
        "denied": segment(acked=5) + answer(GONE, detail=8, care=2) + answer(GONE, which=1, detail=8, care=10) + wait(2, 5),
        "owed": request(text=BEGINNING) + segment(text=bytes([END])) + segment(back=-5, text=words(b" HTTP/1.1\r\n\r\n")) + wait(2, 25),
        "reopened": request() + segment(flags=4, acked=100) + request(text=POST) + segment(flags=FIN),
        "idle": bytes([SYN, 0, 0]) + segment() + segment(flags=FIN) + segment(back=-1) + wait(3, 20) + segment(text=bytes([GET])),
        "options": bytes([SYN, 0, 0x80, 12]) + bytes.fromhex("020405b4 0402 0101 0303 0e 00") + segment(text=bytes([GET])),
        "many": b"".join(request(who, text) for who in range(3) for text in (GET, BEGINNING, HEAD_NOWHERE)),
        "arp": bytes([ARP, 1, 6, 4, 3, 0, 1]) + bytes([ARP, 2, 3, 4, 3, 0, 1]) + bytes([ARP, 2, 0, 4, 5, 3, 0]) + wait(2, 20),
        "changed": request() + bytes([CHANGED, 0, 60, 255, 3]) + bytes([CHANGED, 0, 47, 1, 3]) + bytes([CHANGED, 0, 50, 0, 4]),
        "tight": bytes([BUFFERS, 0, 0, 0]) + request() + bytes([BUFFERS, 84, 0, 1]) + request(1, HEAD_NOWHERE) + request(2, BEGINNING),
        "unusable": bytes([BACKENDS, 0]) + request() + bytes([BACKENDS, 15]) + request(1) + bytes([BACKENDS, 2]) + answer(REFUSED),
    }
    for name, story in stories.items():
        yield name, bytes([0]) + story
    for kind in kinds[1:]:
        for name in ("established", "routed", "held", "page", "refused", "mine", "denied", "owed", "many"):
            yield f"{name}-{kind}", bytes([kind]) + stories[name]
    ping = bytes.fromhex("020000000001 0200000000fe 0800 45000020 00010000 40010000 0a32000b 0a3c0064 08000000 00010001 64617461")
    for number, mended in ((ANY, "as-it-is"), (MENDED, "mended")):
        yield f"ping-{mended}", bytes([0, number]) + struct.pack(">H", len(ping)) + ping
    for at, vector in enumerate(vectors()["messages"]):
        message = bytes.fromhex(vector["frame"])[:400]
        yield f"vector-{at}", bytes([0, MENDED]) + struct.pack(">H", len(message)) + message


def vectors():
    return json.loads((ROOT / "proto/tests/vectors/handoff.json").read_text())


def http_head_seeds():
    heads = {
        "usual": "GET /files/a?b=c HTTP/1.1\r\nHost: www.example.org:80\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
        "old": "GET / HTTP/1.0\r\n\r\n",
        "bare-lines": "GET / HTTP/1.1\nHost: a\n\n",
        "empty-lines-first": "\r\n\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "absolute": "GET http://a.example:8080/b?c HTTP/1.1\r\nHost: d\r\n\r\n",
        "absolute-without-path": "GET https://a.example?b HTTP/1.1\r\nHost: d\r\n\r\n",
        "connect": "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        "asterisk": "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "ipv6": "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
        "two-hosts": "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
        "bad-host": "GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n",
        "bad-port": "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "body": "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
        "chunked": "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "folded": "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "blank-before-colon": "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "unfinished": "GET /files/a HTTP/1.1\r\nHost: www.exam",
        "no-version": "GET /\r\n\r\n",
        "version-2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "high-bytes": "GET /\u00fc HTTP/1.1\r\nHost: \u00fc\r\nX: \u00fc\r\n\r\n",
        "many-fields": "GET / HTTP/1.1\r\n" + "a:\r\n" * 129 + "\r\n",
        "as-many-as-may-be": "GET / HTTP/1.1\r\n" + "a:\r\n" * 128 + "\r\n",
        "hello": "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    }
    for name, head in heads.items():
        yield name, head.encode("utf-8")


def tcp_options_seeds():
    mss, shift, sack, stamps = "020405b4", "030309", "0402", "080a0102030400000000"
    lists = {
        "linux": mss + sack + stamps + "01" + shift,
        "windows": mss + "01" + "030308" + "0101" + sack,
        "macos": mss + "01" + "030306" + "0101" + stamps + sack + "0000",
        "none": "",
        "end-first": "00" + mss,
        "twice": mss + "02040100" + stamps + "080a1111111100000000",
        "small": "02040001",
        "wide-shift": "0303ff",
        "wrong-length": "0203ff",
        "no-length": "0101010101" + "08",
        "length-0": "fe00",
        "length-beyond": "fe28",
        "fast-open": "2202" + mss,
        "md5": "1312" + "aa" * 16,
        "sack-blocks": "050a" + "00000001" * 2 + "0101",
    }
    for name, options in lists.items():
        options = bytes.fromhex(options)
        for switches in (0, 1):
            yield f"{name}-{switches}", bytes([switches, len(options)]) + options + bytes.fromhex("0101" + stamps)
        yield f"later-{name}", bytes([0, 20]) + bytes.fromhex(lists["linux"]) + options


def handoff_header_seeds():
    for vector in vectors()["messages"]:
        message = bytes.fromhex(vector["frame"])[42:]
        yield vector["name"], message[:700]
    whole = bytes.fromhex(vectors()["messages"][0]["frame"])[42:]
    yield "reserved-byte", whole[:31] + b"\x80" + whole[32:]
    yield "zeros", bytes(120)
    yield "count", bytes(range(200))


def control_message_seeds():
    vip = {"address": "10.60.0.100", "port": 80}
    load = {"established": 1, "born": 2, "refused": 3, "accept_queue": {"length": 4, "limit": 5}, "server_cpu_permille": 6,
            "cpu_busy_permille": 7, "memory_pressure_permille": None, "response": {"mean_us": 8, "count": 9},
            "traffic": {"bytes_in": 10, "packets_in": 11, "bytes_out": 12, "packets_out": 13},
            "rate": {"bytes_per_s": 14, "packets_per_s": 15}, "rx_bytes": 16, "tx_bytes": 17}
    tuple_ = {"client": "10.50.0.11", "client_port": 33333, "vip": "10.60.0.100", "vip_port": 80}
    lcore = {"lcore": 0, "cpu": 1, "flows": 2, "rx_frames": 3, "tx_frames": 4, "drops": 5, "busy_us": 6, "idle_us": 7}
    from_agent = {
        "hello": {"type": "hello", "version": 1, "name": "backend1", "address": "10.60.0.11", "vips": [vip], "release": "0.1.0", "time": 17},
        "report": {"type": "report", "number": 1, "ready": False, "reasons": ["no listener"], "load": load,
                   "health": [{"vip": vip, "healthy": False, "why": "refused"}, {"vip": vip, "healthy": True, "why": None}]},
        "sessions": {"type": "sessions", "vip": vip, "ids": ["a00f", "07" * 32]},
        "goodbye": {"type": "goodbye"},
    }
    from_switch = {
        "welcome": {"type": "welcome", "version": 1, "address": "10.60.0.1", "time": 17},
        "turned": {"type": "turned", "why": "no such backend"},
        "time": {"type": "time", "number": 1, "time": 17},
    }
    asked = {
        "backend": {"name": "backend6", "address": "10.60.0.16", "weight": 10, "pools": ["files"], "drain": True, "connections_max": 2000},
        "weight": {"weight": 20, "pool": "files"},
        "configuration": {"toml": "[switch]\naddress = \"10.60.0.1\"\n"},
        "capture": {"client": "10.50.0.11", "client_port": 33333, "vip": vip, "frames_max": 1000, "seconds_max": 60},
    }
    rule = {"number": 1, "conditions": ["host = \"*.example.org\""], "class": "video", "action": {"pool": "videos"}}
    answered = {
        "status": {
            "release": "0.1.0", "uptime_s": 1, "address": "2001:db8::1", "mac": "02:00:00:00:00:01", "device": "net_af_packet0,iface=data0",
            "lcore_count": 1, "vips": [{"name": "web", "vip": vip}], "backends_usable": 1, "backends_configured": 2, "flows": 3,
            "flows_capacity": 4, "rx_frames": 5, "tx_frames": 6, "handoffs": 7, "drops": 8, "lcores": [lcore]},
        "backends": [{
            "name": "backend1", "address": "10.60.0.11", "usable": False, "reasons": ["silent"], "next_hop_mac": None, "report_age_ms": 1,
            "agent_release": "0.1.0", "clock_ahead_ms": -5, "load": load, "pools": ["files"], "weight": 10, "draining": True, "connections": 3, "handoffs": 9}],
        "pools": [{"name": "files", "policy": "maglev", "sticky": "client", "members": [{"backend": "backend1", "weight": 10, "usable": True}]}],
        "rules": [rule, {**rule, "action": {"redirect": {"status": 301, "location": "/b"}}}, {**rule, "class": None, "action": {"respond": {"status": 404}}}],
        "classes": [{"name": "video", "priority": 1, "weight": 10, "rate_per_s": 100, "rules": 1}],
        "flows": {"total": 1, "flows": [{"tuple": tuple_, "backend": None, "state": "holding", "age_ms": 1, "idle_ms": 2, "lcore": 0}]},
        "counters": [{"name": "rx_frames", "description": "Frames.", "value": 18446744073709551615}],
        "events": {"lost": 2, "events": [{"number": 3, "time": 17, "kind": "backend-usable", "subject": "backend1", "text": "usable"}]},
        "route-dispatch": {"vip": "web", "rule": rule, "outcome": {"dispatch": {
            "pool": "videos", "affinity": None, "policy": "lard", "backend": "backend1", "why": "it has the fewest"}}},
        "route-answer": {"vip": "web", "rule": None, "outcome": {"answer": {"status": 302, "location": "/b", "why": "so the rule"}}},
        "configuration": {"generation": 3, "applied": 17, "toml": "[switch]\n"},
        "changes": {"generation": 3, "changes": ["backend1 drains"], "warnings": ["low"]},
        "fault": {"error": "\u00fcnknown"},
    }
    for kind, messages in enumerate((from_agent, from_switch, asked, answered)):
        for name, message in messages.items():
            yield f"{kind}-{name}", bytes([kind]) + json.dumps(message, separators=(",", ":")).encode()
    yield "2-query-http", b"\x02vip=web&client=10.50.0.11&method=GET&target=/a?b&host=www.example.org&header=Cookie: a=1&header=X:"
    yield "2-query-tls", b"\x02server_name=www.example.org&protocol=h2&protocol=http/1.1"
    yield "channel-hello", bytes([4]) + struct.pack(">HB", 49, 1) + bytes(48)
    yield "channel-empty", bytes([4, 0, 0])


def configuration_seeds():
    switch = (ROOT / "dataplane/switch/switch.example.toml").read_text()
    agent = (ROOT / "handoff-agent/agent.example.toml").read_text()
    short = "\n".join(line for line in switch.splitlines() if line and not line.startswith("#"))
    spelled = "\n".join(line.removeprefix("# ") for line in switch.splitlines() if line.startswith("# ") and " = " in line and line.count(" ") < 12
                        or line and not line.startswith("#"))
    agent_short = "\n".join(line for line in agent.splitlines() if line and not line.startswith("#"))
    yield "switch", short.encode()
    yield "switch-spelled-out", spelled.encode()
    yield "switch-small", short.replace("[control]", "[flows]\ncapacity = 16\n[control]").encode()
    yield "switch-page", (short + '\n[[error_page]]\nstatus = 503\nfile = "10"\ncontent_type = "text/html"\n').encode()
    yield "switch-dispatch", (short.replace("[[pool]]", '[[class]]\nname = "gold"\npriority = 2\nrate_per_s = 9\n[[pool]]', 1)
                              .replace("[overload]", "[overload]\nbegin_percent = 60") + """
[[vip]]
name = "secure"
address = "10.60.0.100"
port = 443
inspect = "tls"
[[pool]]
name = "p"
backends = ["backend1", { name = "backend2", weight = 3 }]
policy = { name = "maglev", hash = { cookie = "SID" }, bounded_load_percent = 150 }
sticky = { cookie_route = "SID" }
[[pool]]
name = "q"
backends = ["backend3"]
policy = { name = "racc", depth = 2, subtrees = [{ path = "/images", bytes = 1000, cost = 2 }] }
[[rule]]
vip = "web"
method = ["GET", "HEAD"]
path_regex = "^/user/[0-9]+/"
header = [{ name = "X-Beta" }, { name = "A", value = "b" }]
cookie = { name = "group", value_prefix = "go" }
query = { name = "id", value = "7" }
client = ["10.0.0.0/8", "2001:db8::/32"]
class = "gold"
pool = "p"
[[rule]]
service = "video"
pool = "q"
[[rule]]
host = "*.example.org"
redirect = { status = 308, location = "https://{host}:{port}{path}?{query}" }
[[rule]]
vip = "secure"
server_name = "*.example.org"
protocol = "h2"
pool = "files"
[[rule]]
path_exact = "/gone"
respond = { status = 410, body = "gone" }
""").encode()
    yield "switch-twice", (short + "\n" + short).encode()
    yield "switch-empty", b""
    yield "switch-types", b'[switch]\naddress = 1\n[dpdk]\nlcores = "1"\n[[vip]]\nport = "80"\n'
    yield "switch-ranges", b"[dpdk]\nmtu = 1\nlcores = [1, 1, -1, 9999]\nmemory_mb = 0\n[flows]\ncapacity = 1\n[requests]\nunfinished_count_max = 0\n"
    yield "agent", ("#agent\n" + agent_short).encode()
    yield "agent-faults", b'#agent\n[agent]\nname = "/"\ninterface = ""\naddress = "127.0.0.1"\nswitch = "a"\nrecords = 1\npin_dir = "/sys/fs"\n[[vip]]\nport = 0\nhealth = "http:x"\n'
    key = '[[key]]\nid = {}\nsecret = "{}"\n'
    yield "keys", ("#keys\n" + key.format(3, "ab" * 32) + key.format(4, "cd" * 32)).encode()
    yield "keys-twice", ("#keys\n" + key.format(3, "ab" * 32) * 2).encode()
    yield "keys-short", ("#keys\n" + key.format(3, "ab" * 31)).encode()
    yield "keys-unknown", ("#keys\n" + key.format(3, "ab" * 32) + "colour = 1\n").encode()
    yield "broke-keys-exchanged", f'#keys\n[[key]]\nid = "{"ab" * 32}"\nsecret = 3\n'.encode()
    yield "keys-unquoted", ("#keys\n" + key.format(3, "ab" * 32).replace('"', "")).encode()


def chunked_seeds():
    bodies = {
        "two-chunks": "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        "upper-case-and-zeros": "00A\r\n0123456789\r\n000\r\n\r\n",
        "extensions": "3;a=b;c=\"d\"\r\nabc\r\n0 ;e\r\n\r\n",
        "trailer": "0\r\nDate: x\r\nA:\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "line-feeds": "1\na\n0\n\n",
        "size-too-small": "2\r\nabc\r\n0\r\n\r\n",
        "size-without-line-feed": "1\rXa\r\n0\r\n\r\n",
        "size-blank": "5 \r\nhello\r\n0\r\n\r\n",
        "size-prefixed": "0x5\r\nhello\r\n0\r\n\r\n",
        "size-huge": "7fffffffffffffff\r\nabc",
        "size-too-huge": "8000000000000000\r\nabc",
        "size-too-many-digits": "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "trailer-no-field": "0\r\n no field\r\n\r\n",
        "trailer-many": "0\r\n" + "a:\r\n" * 65 + "\r\n",
        "extension-long": "1;" + "a" * 1024 + "\r\na\r\n0\r\n\r\n",
        "unfinished": "5\r\nhel",
    }
    for name, body in bodies.items():
        yield name, bytes([2 << 1]) + body.encode()
    seen = set()
    for case in json.loads((ROOT / "dataplane/core/tests/vectors/h11/requests.json").read_text())["cases"]:
        if case["kind"] not in seen and len(case["stream"]) < 160:
            seen.add(case["kind"])
            yield f"vector-{case['kind']}", b"\x07" + case["stream"].encode("latin-1")


def client_hello_seeds():
    for vector in json.loads((ROOT / "dataplane/core/tests/vectors/tls/hellos.json").read_text())["hellos"]:
        stream = bytes.fromhex(vector["stream"])
        if len(stream) > 700:
            continue
        yield f"{vector['name']}-stream", b"\xff" + stream
        if stream[0] == 22 and stream[5] == 1:
            yield f"{vector['name']}-message", b"\x20" + stream[9:]
            yield f"{vector['name']}-followed", b"\xff" + stream + bytes.fromhex("1703030001aa")
    hello = bytes.fromhex("0303" + "11" * 32 + "00" + "00021301" + "0100")
    name = b"www.example.org"
    server_name = struct.pack(">HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name
    extensions = server_name + bytes.fromhex("0010000e000c02683208687474702f312e31 002b0005040a0a0304")
    yield "small-message", b"\x03" + hello
    yield "small-extensions", b"\x03" + hello + struct.pack(">H", len(extensions)) + extensions
    yield "ssl2", b"\x00\x80\x2e\x01\x03\x01"
    yield "alert", b"\x00" + bytes.fromhex("15030100020228")
    yield "interleaved", b"\x00" + bytes.fromhex("160301000101 150301000101")
    yield "empty-record", b"\x00" + bytes.fromhex("1603010000")


TARGETS = {
    "chunked": chunked_seeds,
    "client_hello": client_hello_seeds,
    "configuration": configuration_seeds,
    "control_message": control_message_seeds,
    "frame": frame_seeds,
    "handoff_header": handoff_header_seeds,
    "http_head": http_head_seeds,
    "tcp_options": tcp_options_seeds,
}


def seeds_of(target):
    """What a target begins with: the bytes by the name of their file."""
    seeds = {}
    for name, content in TARGETS[target]():
        file = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-")
        assert file not in seeds, f"{target}: two seeds would be {file}"
        seeds[file] = content
    return seeds


def faults_of(target):
    """What is wrong with a target's part of the committed corpus."""
    seeds = seeds_of(target)
    files = {path.name: path.read_bytes() for path in (CORPUS / target).glob("*")}
    for name, content in seeds.items():
        if name not in files:
            yield f"{name} is missing"
        elif files[name] != content:
            yield f"{name} is not what this program writes"
    for name in sorted(files.keys() - seeds.keys()):
        if not name.startswith("broke-") and name != hashlib.sha1(files[name]).hexdigest():
            yield f"{name} is neither a seed nor a find under its hash nor called broke-..."


def check():
    faults = [f"{target}/{fault}" for target in TARGETS for fault in faults_of(target)]
    faults += [f"{path.name}: a corpus without seeds" for path in CORPUS.iterdir() if path.name not in TARGETS]
    for fault in faults:
        print(f"seeds: {fault}", file=sys.stderr)
    if faults:
        print("seeds: dataplane/fuzz/seeds.py dataplane/fuzz/corpus writes the seeds again", file=sys.stderr)
    return 1 if faults else 0


def main():
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    for target in TARGETS:
        directory = pathlib.Path(sys.argv[1]) / target
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in seeds_of(target).items():
            (directory / name).write_bytes(content)


main()
