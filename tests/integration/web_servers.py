"""Real servers from Debian's packages, in child processes: nginx, and httpbin on Werkzeug."""

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

from attrs import define


NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
# Debian's: PyPI's wants an old greenlet, and its older releases install a package named `tests`.
HTTPBIN = Path("/usr/lib/python3/dist-packages/httpbin").exists()
CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 10000000; gzip on; gzip_min_length 1; gzip_types *;
    client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp;
    fastcgi_temp_path {folder}/tmp; uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
    server {{
        listen {place}{tls};
        root {folder}/www;
        {upstream}
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 permanent; }}
        location /slow {{ limit_rate 1000; }}
    }}
}}
"""
UPSTREAM = "location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; }}"
TLS = " ssl; ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/chain.pem"
HTTPBIN_SERVER = """
from httpbin import app
from werkzeug.serving import WSGIRequestHandler, make_server
WSGIRequestHandler.protocol_version = "HTTP/1.1"
WSGIRequestHandler.log_request = lambda *_: None
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@define(eq=False)
class Server:
    process: subprocess.Popen
    port: int
    folder: Path | None = None

    def stop(self):
        self.process.terminate()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def start_nginx(files, pem=None, upstream=None):
    """Serve `files` (name to bytes), or what is at the port `upstream`.

    nginx inherits a listening socket, so the port is free.
    """
    folder = Path(tempfile.mkdtemp(prefix="evserve-nginx-"))
    folder.chmod(0o755)
    (folder / "www").mkdir()
    for name, data in files.items():
        (folder / "www" / name).write_bytes(data)
    if pem:
        (folder / "chain.pem").write_bytes(pem)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.setblocking(False)  # as nginx expects of what it inherits
        port = listener.getsockname()[1]
        tls = TLS.format(folder=folder) if pem else ""
        config = CONFIG.format(
            folder=folder,
            place=f"127.0.0.1:{port}",
            tls=tls,
            upstream=UPSTREAM.format(port=upstream) if upstream else "",
        )
        (folder / "nginx.conf").write_text(config)
        process = subprocess.Popen(
            [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder)],
            pass_fds=[listener.fileno()],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            stderr=subprocess.DEVNULL,
        )
    _wait_until_it_answers(process, port)
    return Server(process, port, folder)


@cache
def shared_httpbin():
    """Return one server for the whole run (trial knows no setUpClass): it takes long to start."""
    process = subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", HTTPBIN_SERVER],  # PYTHONPATH may be for another Python
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    server = Server(process, int(process.stdout.readline()))
    atexit.register(server.stop)
    return server


def _wait_until_it_answers(process, port):
    """The kernel accepts at once; an answer shows that nginx is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 1) as probe,
        ):
            probe.settimeout(5)
            probe.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            if probe.recv(1):
                return
    raise AssertionError("nginx does not start")
