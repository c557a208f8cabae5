"""One server in a process of its own: `python -m benchmarks.asgi.serve uvicorn|evserve [LOG]`.

LOG becomes the access log. The server runs until it is killed.
"""

import os
import sys
from pathlib import Path
from typing import Final

from benchmarks.queue.servers import free_port
from benchmarks.web.serve import announce_later
from benchmarks.web.with_uvicorn import serve_application


_APP: Final = "benchmarks.asgi.app:app"


def main(name: str, log: str | None = None) -> None:
    """Serve until killed."""
    if name == "uvicorn":
        # Without the header that names it, so that both servers send the same answers.
        serve_application(_APP, log, server_header=False)
        return
    port = free_port()
    twistd = str(Path(sys.executable).with_name("twistd"))
    to = ["--no-access-log"] if log is None else []
    words = ["-n", "--pidfile=", *([] if log is None else [f"--logfile={log}"])]
    announce_later(port)
    os.execv(  # noqa: S606  # no shell
        twistd, [twistd, *words, "evserve", "asgi", _APP, "--port", str(port), *to]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
