"""evserve's echo service on uvloop: transports in C, and a Twisted protocol on top of them.

    twistd -n evserve echo --port 9000 --transform upper

in this process. libuv calls epoll, and uvloop, which is compiled, reads and writes; no Python runs
between it and the protocol's `dataReceived`. evserve adds limits, metrics, TLS and a drain at the
end.

It costs a compiled extension, and one or two kilobytes for each connection. The only Python that
is left is the protocol.

It breaks at the limit of open files, and with a slow callback.
"""

import importlib.util
import re
import sys
from collections.abc import Callable

from _common import announce, raise_file_limit, unavailable, warn
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.scripts.twistd import run
from zope.interface import directlyProvides


ADDRESS = re.compile(r"echo: listening on tcp (\S+)")


def observer() -> Callable[[LogEvent], None]:
    """Return the function that receives twistd's log events."""
    address = ""

    def observe(event: LogEvent) -> None:
        nonlocal address
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if found := ADDRESS.match(text):
            address = found[1]
        elif " serves echo " in text:  # from now on signals end it properly
            announce(address)
        elif address and event.get("log_level", LogLevel.info) >= LogLevel.warn:
            warn(text)

    directlyProvides(observe, ILogObserver)
    return observe


def main() -> None:
    """Start twistd."""
    if importlib.util.find_spec("uvloop") is None:
        unavailable("needs uvloop: pip install uvloop")
    raise_file_limit()
    port = sys.argv[1] if sys.argv[1:] else "9000"
    sys.argv[1:] = ["--reactor=uvloop", "-n", "--logger=__main__.observer", "evserve"]
    sys.argv += ["--no-cwd-plugins", "echo", "--port", port, "--transform", "upper"]
    sys.argv += ["--drain", "3"]  # seconds in which clients may finish at the end
    run()


if __name__ == "__main__":
    main()
