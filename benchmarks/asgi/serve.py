"""One server in a process of its own: `python -m benchmarks.asgi.serve uvicorn|evserve [LOG]`.

LOG becomes the access log. The server runs until it is killed.
"""

import sys
from typing import Final

from twisted.scripts.twistd import run

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
    announce_later(port)
    logs = ["--nodaemon"] if log is None else ["--nodaemon", f"--logfile={log}"]
    to = ["--port", str(port), *["--no-access-log"] * (log is None)]
    # In this process, which valgrind may be watching.
    sys.argv = ["twistd", *logs, "--pidfile=", "evserve", "asgi", _APP, *to]
    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
