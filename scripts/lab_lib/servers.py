"""Configuration of the lab's ordinary servers: an nginx on each backend, and HAProxy to compare with."""

import os
import re
import shutil

from . import content as content_of
from .system import command
from .topology import TLS_PORT, VIP_PORT

ACCESS_LOG = re.compile(r'(?P<client>[\d.]+):(?P<port>\d+) "(?P<request>[^"]*)" (?P<status>\d+) (?P<bytes>\d+) '
                        r'conn=(?P<connection>\d+) req=(?P<request_number>\d+) to=(?P<server>[\d.]+):\d+')

# What each pool of paths is called, and which backend (counted from 0, modulo their number) serves it.
SERVICES = {"files": "/files/", "video": "/video/", "db": "/db/"}

_NGINX = """\
# A backend of the Baton lab. Nothing in here knows of Baton.
daemon off;
user www-data;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 8192; }}
http {{
    log_format lab '$remote_addr:$remote_port "$request" $status $body_bytes_sent '
                   'conn=$connection req=$connection_requests to=$server_addr:$server_port';
    access_log {dir}/access.log lab;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 60s;
    large_client_header_buffers 8 32k;
    client_max_body_size 64m;
    client_body_temp_path {dir}/tmp/body;
    proxy_temp_path {dir}/tmp/proxy;
    fastcgi_temp_path {dir}/tmp/fastcgi;
    uwsgi_temp_path {dir}/tmp/uwsgi;
    scgi_temp_path {dir}/tmp/scgi;
    default_type application/octet-stream;
    add_header X-Backend {name} always;
    # Sessions of TLS 1.2 are kept here, under an id, and not given to the client as tickets: what a sticky switch can know.
    ssl_certificate {certificate}/certificate.pem;
    ssl_certificate_key {certificate}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:lab:4m;
    ssl_session_tickets off;

    server {{
        # Every address of the host, as an ordinary server listens: its own, and the VIP as soon as the agent
        # has put it on lo. So agent and server may start in either order.
        listen {port};
        listen {tls_port} ssl;
        root {content};

        location = / {{ default_type text/plain; return 200 "{index}"; }}
        location = /who {{ default_type text/plain; return 200 "{name}\\n"; }}
        location = /healthz {{ default_type text/plain; return 200 "ok\\n"; }}
        location /files/ {{ alias {content}/; autoindex on; }}
        location /video/ {{ alias {content}/; autoindex on; }}
        # Stands for a service that computes small answers.
        location /db/ {{
            default_type application/json;
            return 200 '{{"server":"{name}","path":"$uri","id":"$arg_id"}}\\n';
        }}
        # A download that takes its time: 1 MB/s.
        location /slow/ {{ alias {content}/; limit_rate 1m; }}
        # /b/<name>/...: rules send it to that backend; here the prefix only goes away.
        location /b/ {{ rewrite ^/b/[^/]+(/.*)$ $1 last; return 404; }}
        # A body of up to 64 MB is read, stored under uploads/<id>, and its length and id are told.
        location /upload {{
            if ($request_method !~ ^(POST|PUT)$) {{ return 405 "POST or PUT a body here\\n"; }}
            rewrite ^ /$request_id break;
            proxy_method PUT;
            proxy_pass http://unix:{dir}/upload.sock;
        }}
    }}
    server {{
        listen unix:{dir}/upload.sock;
        access_log off;
        root {dir}/uploads;
        location ~ ^/(?<id>[0-9a-f]+)$ {{
            dav_methods PUT;
            add_header X-Upload-Bytes $content_length always;
            add_header X-Upload-Id $id always;
        }}
    }}
}}
"""

# What a backend answers to a GET of /. No quotes and no dollars: it stands in nginx.conf.
_INDEX = """\
This is {name} of a Baton lab. It answers:
  /who          its name
  /files/SIZE   a file; SIZE is one of {sizes}
  /video/SIZE   the same file, from the backend for video
  /slow/SIZE    the same file, at 1 MB/s
  /db/?id=7     a small JSON text, from the backend for such
  /upload       POST or PUT a body: it is stored, and its length told
  /b/NAME/...   any of these, from the backend of that name
"""

_HAPROXY = """\
# The peer Baton is measured beside: one thread, the same rules. `http-reuse always` is its fastest setting for
# clients that close: their requests share idle connections to the servers.
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    retries 2
frontend web
    bind {address}:{port}
{rules}    default_backend all
{backends}"""


def make_nginx_directory(directory):
    """Make what nginx needs to run in `directory`; its workers, user www-data, write only where they must."""
    (directory / "tmp").mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in ("tmp/body", "tmp/proxy", "tmp/fastcgi", "tmp/uwsgi", "tmp/scgi", "uploads"):
        (directory / name).mkdir(mode=0o755, exist_ok=True)
        shutil.chown(directory / name, "www-data", "www-data")
    for name in ("access.log", "error.log"):
        (directory / name).touch(mode=0o644)


def make_certificate(directory):
    """A certificate of the lab's own, the same for all its servers."""
    directory.mkdir(mode=0o700)
    command(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "30", "-subj", "/CN=baton-lab", "-keyout", str(directory / "key.pem"),
             "-out", str(directory / "certificate.pem")])


def nginx_config(name, directory, content, certificate):
    """nginx.conf of one backend. `/upload` stands for any handler that reads a request's body to its end."""
    index = _INDEX.format(name=name, sizes=", ".join(content_of.SIZES)).replace("\n", "\\n")
    return _NGINX.format(name=name, dir=directory, content=content, port=VIP_PORT, tls_port=TLS_PORT, index=index,
                         certificate=certificate)


def haproxy_config(address, services, backends):
    """haproxy.cfg with the rules of the switch: service paths, /b/<name>/, round robin for the rest."""
    rules, sections = "", ""
    for service, path in SERVICES.items():
        rules += f"    use_backend {service} if {{ path_beg {path} }}\n"
    for host in backends:
        rules += f"    use_backend {host.name} if {{ path_beg /b/{host.name}/ }}\n"
    pools = {**{s: [services[s]] for s in SERVICES}, **{h.name: [h] for h in backends}, "all": backends}
    for pool, hosts in pools.items():
        sections += f"backend {pool}\n    balance roundrobin\n"
        sections += "".join(f"    server {h.name} {h.data_address}:{VIP_PORT}\n" for h in hosts)
    return _HAPROXY.format(address=address, port=VIP_PORT, rules=rules, backends=sections)


def services_of(backends):
    """Which backend serves each service: files, video and database-like paths, in turn."""
    return {service: backends[i % len(backends)] for i, service in enumerate(SERVICES)}


def access_log_entries(directory):
    """The parsed lines of a backend's access log; numbers are integers."""
    entries = []
    with open(os.path.join(directory, "access.log"), errors="replace") as log:
        for line in log:
            match = ACCESS_LOG.match(line)
            if match:
                entry = match.groupdict()
                for key in ("port", "status", "bytes", "connection", "request_number"):
                    entry[key] = int(entry[key])
                entries.append(entry)
    return entries
