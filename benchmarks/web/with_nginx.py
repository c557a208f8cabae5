"""nginx, one process, for orientation."""

import os
import tempfile
from pathlib import Path

from benchmarks.queue.servers import free_port
from benchmarks.web.pages import MEMORY
from benchmarks.web.serve import announce_later
from benchmarks.web.systems import find_program


_CONFIG = """
daemon off; master_process off; pid {own}/pid; error_log {own}/errors;
events {{ worker_connections 4096; }}
http {{
    access_log {log}; sendfile on; keepalive_requests 100000000; default_type text/html;
    client_body_temp_path {own}/tmp; proxy_temp_path {own}/tmp;
    fastcgi_temp_path {own}/tmp; uwsgi_temp_path {own}/tmp; scgi_temp_path {own}/tmp;
    server {{
        listen 127.0.0.1:{port};
        location /files/ {{ alias {folder}/; }}
        {pages}
    }}
}}
"""


def serve(*, folder: Path, log: str | None) -> None:
    """Become nginx, which logs to a file as it does by default: unbuffered."""
    own = Path(tempfile.mkdtemp(dir=folder.parent))
    own.chmod(0o755)  # the worker may be another user
    pages = "\n".join(
        f'location = {path} {{ return 200 "{content.decode()}"; }}'
        for path, content in MEMORY.items()
    )
    port = free_port()
    config = _CONFIG.format(own=own, log=log or "off", port=port, folder=folder, pages=pages)
    (own / "nginx.conf").write_text(config)
    program = find_program("nginx")
    assert program is not None
    announce_later(port)  # nginx without a master crashes if it inherits a socket
    os.execv(program, [program, "-c", str(own / "nginx.conf"), "-p", str(own)])  # noqa: S606  # no shell
