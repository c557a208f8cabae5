"""From options to endpoints.

Twisted's endpoint strings listen on every interface unless told otherwise. Here exposing a service
is a choice: an endpoint that names no interface gets the one of `--interface`, which is loopback.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.usage import Options, UsageError

from evserve.endpoints import check_text, explain_endpoint
from evserve.host.options import port_number
from evserve.host.systemd import check_passed, passed_sockets


# Twisted's default of 50 makes a burst of clients wait for their SYN to be sent again.
BACKLOG = 1024

# The arguments of Twisted's endpoints, in the order in which they may stand without their names.
_ARGUMENTS = {
    "tcp": ("port", "interface", "backlog"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
    "tls": ("path", "port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}

_UNKNOWN = "unknown kind (known: tcp, ssl, tls, unix, systemd, haproxy)"


def endpoint_strings(options: Options) -> list[str]:
    """Return the endpoint strings that `options` ask for, as a user would write them.

    Raises UsageError if they ask for none and the service has no default port.
    """
    asked = list(options.get("listen") or ())
    port = options.get("port")
    if port is None and not asked:
        port = getattr(options, "default_port", None)
    if port is not None:
        asked.insert(0, f"tcp:{port}")
    if not asked:
        raise UsageError("where should it listen? Give --port N or --listen ENDPOINT")
    return asked


def complete(endpoint: str, interface: str) -> str:
    """Add the interface and the backlog that `endpoint` leaves out.

    Raises ValueError on what Twisted would stumble over only when it listens, or never.
    """
    check_text(endpoint)
    kind, separator, rest = endpoint.partition(":")
    if kind == "stdio":
        raise ValueError("nobody can connect to standard input")
    if kind == "haproxy":
        return f"haproxy:{complete(rest, interface)}"
    names = _ARGUMENTS.get(kind, ())
    given = _given(rest, names) if separator else {}
    _check(given)
    defaults = {"interface": quoteStringArgument(interface), "backlog": str(BACKLOG)}
    missing = [f"{k}={v}" for k, v in defaults.items() if k in names and k not in given]
    return ":".join([endpoint, *missing])


def _given(rest: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the arguments of an endpoint by name."""
    arguments = re.split(r"(?<!\\):", rest)
    pairs = [re.split(r"(?<!\\)=", each, maxsplit=1) for each in arguments]
    named = {pair[0]: pair[1] for pair in pairs if len(pair) > 1}
    positional = [pair[0] for pair in pairs if len(pair) == 1]
    return {**dict(zip(names, positional, strict=False)), **named}


def _check(given: Mapping[str, str]) -> None:
    port, folder = given.get("port"), given.get("path")
    if given.get("interface") == "":  # which a socket would take for every interface
        raise ValueError(r"its interface is empty (0.0.0.0 for every one; \: for a colon in it)")
    if port is not None:
        try:
            port_number(port)
        except ValueError as error:
            raise ValueError(f"{port!r} is {error}") from error
    if folder is not None and not Path(re.sub(r"\\(.)", r"\1", folder)).is_dir():
        raise ValueError(f"no folder {folder!r} with certificates")


def _check_systemd(endpoint: str) -> None:
    kind, _, rest = endpoint.removeprefix("haproxy:").partition(":")
    if kind == "systemd":
        check_passed(_given(rest, _ARGUMENTS[kind]), passed_sockets())


def parse_endpoint(reactor: Any, endpoint: str, interface: str) -> IStreamServerEndpoint:
    """Return the endpoint that a string describes; raises UsageError in one line."""
    try:
        _check_systemd(endpoint)
        parsed: IStreamServerEndpoint = serverFromString(reactor, complete(endpoint, interface))
    except Exception as error:
        raise UsageError(f"bad endpoint {endpoint!r}: {_explain(error)}") from error
    return parsed


def _explain(error: Exception) -> str:
    if isinstance(error, LookupError):  # of the descriptors in LISTEN_FDS
        return "systemd passed no such socket"
    return explain_endpoint(error, _UNKNOWN)
