"""The servers: an nginx without and with TLS, and a server that answers late."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from attrs import frozen


_CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; keepalive_requests 100000000;
    client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp;
    fastcgi_temp_path {folder}/tmp; uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
    root {folder}; ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/chain.pem;
    server {{ listen 127.0.0.1:{0}; }}
    server {{ listen 127.0.0.1:{1} ssl; }}
    server {{ listen 127.0.0.1:{2} ssl; keepalive_timeout 0; }}
}}
"""
FILES = {"1k": 1024, "50k": 50 * 1024, "200m": 200 * 1000 * 1000}


@frozen
class Servers:
    """The base URLs of the servers, and the certificate to trust."""

    plain: str
    tls: str
    tls_new: str  # closes after every response
    delay: str
    authority: str
    folder: str


@contextmanager
def run_servers(core: int | None) -> Iterator[Servers]:
    """Run the servers on one core, or on any."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evserve-bench-")))
        folder.chmod(0o755)  # the worker of nginx is another user
        _fill(folder)
        ports = _start_nginx(stack, folder, core)
        delay = _start_python(stack, ["-m", "benchmarks.http.delay_server", "0.1"], core)
        http, https, new = ports
        yield Servers(
            f"http://127.0.0.1:{http}",
            f"https://127.0.0.1:{https}",
            f"https://127.0.0.1:{new}",
            f"http://127.0.0.1:{delay}",
            str(folder / "authority.pem"),
            str(folder),
        )


def _fill(folder: Path) -> None:
    trustme = import_module("trustme")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "chain.pem"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    for name, size in FILES.items():
        with (folder / name).open("wb") as file:
            for start in range(0, size, 2**20):
                file.write(os.urandom(min(2**20, size - start)))
        (folder / name).chmod(0o644)
    os.sync()  # otherwise the first runs would share the disk with these files


def _start_nginx(stack: ExitStack, folder: Path, core: int | None) -> list[int]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("nginx is not installed: apt-get install nginx-light")
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(3)]
    ports: list[int] = [listener.getsockname()[1] for listener in listeners]
    (folder / "nginx.conf").write_text(_CONFIG.format(*ports, folder=folder))
    for listener in listeners:
        listener.setblocking(False)  # nginx expects it of inherited sockets
    descriptors = [listener.fileno() for listener in listeners]
    process = subprocess.Popen(  # noqa: S603 # found above
        [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)],
        pass_fds=descriptors,
        env={**os.environ, "NGINX": "".join(f"{number};" for number in descriptors)},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: pin_to_core(core),  # noqa: PLW1509 # no threads here
    )
    stack.callback(_end, process)
    for listener in listeners:
        listener.close()
    time.sleep(0.5)
    if process.poll() is not None:
        raise SystemExit(f"nginx does not start: {(folder / 'errors').read_text()}")
    return ports


def _start_python(stack: ExitStack, words: list[str], core: int | None) -> int:
    process = subprocess.Popen(  # noqa: S603 # our own module
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: pin_to_core(core),  # noqa: PLW1509 # no threads here
    )
    stack.callback(_end, process)
    assert process.stdout is not None
    return int(process.stdout.readline())


def pin_to_core(core: int | None) -> None:
    """Keep this process on one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait()
