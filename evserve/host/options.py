"""The options that every listening service takes, under the same names everywhere."""

import math
import re
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.python.reflect import accumulateClassList
from twisted.python.usage import Options


MAX_PORT = 65535


def port_number(text: str) -> int:
    """Return a TCP or UDP port; 0 lets the system choose."""
    if not (re.fullmatch(r"\d{1,5}", text, re.ASCII) and int(text) <= MAX_PORT):
        raise ValueError(f"not a port number (0 to {MAX_PORT})")
    return int(text)


def address(text: str) -> str:
    """Return an address to listen on; an empty one would mean every interface to a socket."""
    if not text.isprintable() or not text.strip():
        raise ValueError("not an address (0.0.0.0 or :: for every one)")
    return text


def positive_number(text: str) -> int:
    """Return a count of at least 1."""
    if not re.fullmatch(r"0*[1-9]\d{0,17}", text, re.ASCII):
        raise ValueError("not a whole number above 0")
    return int(text)


def seconds(text: str) -> float:
    """Return a duration in seconds, 0 or more."""
    number = re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII)
    if not (number and math.isfinite(float(text))):  # hundreds of digits make an infinity
        raise ValueError("not a number of seconds (such as 2 or 0.5)")
    return float(text)


LOOPBACK = "127.0.0.1"  # where servers listen unless told otherwise

PORT: list[Any] = ["port", None, None, "Listen on this TCP port of --interface", port_number]

LISTENING_PARAMETERS: list[list[Any]] = [
    PORT,
    ["interface", None, LOOPBACK, "Address to listen on; 0.0.0.0 or :: for every one", address],
    ["max-connections", None, None, "Refuse clients beyond this many", positive_number],
    ["max-per-peer", None, None, "Refuse an address beyond this many clients", positive_number],
    ["idle-timeout", None, None, "Close connections silent for this many seconds", seconds],
]

LISTENING = {"listen", *(row[0] for row in LISTENING_PARAMETERS)}


def opt_listen(self: Options, endpoint: str) -> None:
    """Listen on a Twisted endpoint, such as tcp:9000 or unix:/run/echo (may be repeated)"""  # noqa: D400 - shown by --help
    self.opts.setdefault("listen", []).append(endpoint)


@frozen
class Limits:
    """What a listening service allows; None is no limit."""

    max_connections: int | None = None
    max_per_peer: int | None = None
    idle_timeout: float | None = None  # seconds

    @classmethod
    def of(cls, options: Options) -> "Limits":
        """Read the limits out of a service's parsed options."""
        get = options.get
        return cls(get("max-connections"), get("max-per-peer"), get("idle-timeout") or None)


def parameters_of(options: type[Options]) -> list[list[Any]]:
    """Return the `optParameters` rows of an option class and its bases, five columns each."""
    rows: list[Any] = []
    accumulateClassList(options, "optParameters", rows)
    return [[*row, None, None, None, None][:5] for row in rows]


def with_listening_options(options: Callable[[], Options]) -> Callable[[], Options]:
    """Return a service's option class with the listening options added.

    What the service defines under the same name stays as it is. A class attribute `default_port`
    says where it listens when nobody does.
    """
    if not isinstance(options, type):
        return options
    taken = {row[0] for row in parameters_of(options)}
    port = list(PORT)
    default = getattr(options, "default_port", None)
    if default is not None:
        port[3] = f"{port[3]} [default: {default}]"
    rows = [port, *LISTENING_PARAMETERS[1:]]
    added: dict[str, Any] = {"optParameters": [row for row in rows if row[0] not in taken]}
    if not hasattr(options, "opt_listen"):
        added["opt_listen"] = opt_listen
    return type(options.__name__, (options,), {"__doc__": options.__doc__, **added})
