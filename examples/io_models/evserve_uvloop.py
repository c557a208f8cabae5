"""evserve's echo service on uvloop: transports in C, with a Twisted protocol on top of them.

    twistd --reactor=uvloop -n evserve echo --port 9000 --transform upper

in this process. libuv asks epoll, and uvloop, which is compiled, reads and writes; no Python runs
between it and the protocol's `dataReceived`. Limits, metrics, TLS and a drain at the end come
with evserve.

It costs a compiled extension, and a kilobyte or two for each connection. What Python remains is
the protocol's own.

It breaks at the limit of open files, and with a callback that takes its time.
"""

import functools
import importlib.util
import re
import resource
import sys
from collections.abc import Callable

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.scripts.twistd import run
from zope.interface import directlyProvides


ADDRESS = re.compile(r"echo: listening on tcp (\S+)")
OUT, ERR = sys.stdout, sys.stderr  # twistd makes log lines of what is printed from then on


@functools.cache  # once for each reason
def complain(reason: str) -> None:
    """Say where this model breaks, and go on serving whom it can."""
    print(f"evserve_uvloop: {reason}", file=ERR)


def observer() -> Callable[[LogEvent], None]:
    """Return what twistd shall hand its log events to."""
    address = ""

    def observe(event: LogEvent) -> None:
        nonlocal address
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if found := ADDRESS.match(text):
            address = found[1]
        elif " serves echo " in text:  # and signals end it properly from now on
            print(f"evserve_uvloop: listening on {address}", file=OUT, flush=True)
        elif address and event.get("log_level", LogLevel.info) >= LogLevel.warn:
            complain(text)

    directlyProvides(observe, ILogObserver)
    return observe


def main() -> None:
    """Start twistd."""
    if importlib.util.find_spec("uvloop") is None:
        complain("needs uvloop: pip install 'evserve[lab]'")
        sys.exit(3)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = sys.argv[1] if sys.argv[1:] else "9000"
    sys.argv[1:] = ["--reactor=uvloop", "-n", "--logger=__main__.observer", "evserve"]
    sys.argv += ["--no-cwd-plugins", "echo", "--port", port, "--transform", "upper"]
    run()


if __name__ == "__main__":
    main()
