"""Server endpoint strings: from a service's options to Twisted endpoints.

Twisted's endpoints listen on all interfaces by default. Here, an endpoint that names no interface
gets that of `--interface`, which is loopback, so that exposing a service is a choice. UNIX sockets
follow the umask, and one that a killed process has left behind is replaced.
"""

import errno
import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define, frozen
from twisted.internet.abstract import isIPv6Address
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.python.usage import Options, UsageError

from evserve.endpoints import check_text, explain_endpoint
from evserve.host.options import LOOPBACK
from evserve.host.systemd import check_inherited_socket, inherited_sockets
from evserve.options import port_number


LOOPBACK6 = "::1"
# With Twisted's default of 50, clients in a burst have to send their SYN again.
BACKLOG = 1024

# The arguments of Twisted's endpoints, in their positional order.
_ARGUMENTS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
    "tls": ("path", "port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}

_UNKNOWN = "unknown kind (known: tcp, tcp6, ssl, tls, unix, systemd, haproxy)"


class EndpointError(UsageError):
    """An endpoint string that cannot be used; `reason` is one line."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"bad endpoint {endpoint!r}: {reason}")
        self.reason = reason


def endpoint_strings(options: Options) -> list[str]:
    """Return the endpoint strings that `options` ask for, as the user wrote them.

    Raises UsageError if there are none and the service has no default port.
    """
    strings = list(options.get("listen") or ())
    port = options.get("port")
    if port is None and not strings:
        port = getattr(options, "default_port", None)
    if port is not None:
        strings.insert(0, f"tcp:{port}")
    if not strings:
        raise UsageError(
            "no port and no endpoint to listen on (give --port N or --listen ENDPOINT)"
        )
    return strings


def parse_endpoint(reactor: Any, endpoint: str, interface: str) -> IStreamServerEndpoint:
    """Return the endpoint that a string describes; raises EndpointError."""
    try:
        kind, _, rest = endpoint.removeprefix("haproxy:").partition(":")
        given = _arguments(kind, rest)
        if kind == "systemd":
            check_inherited_socket(given, inherited_sockets())
        parsed: IStreamServerEndpoint = serverFromString(
            EndpointReactor(reactor, has_mode="mode" in given), add_defaults(endpoint, interface)
        )
    except LookupError as error:  # Twisted's, about LISTEN_FDS
        raise EndpointError(endpoint, "systemd passed no such socket") from error
    except Exception as error:
        raise EndpointError(endpoint, explain_endpoint(error, _UNKNOWN)) from error
    return parsed


def valid_endpoint(text: str) -> str:
    """Return an endpoint string that `parse_endpoint` accepts: a parser of option values."""
    reactor: Any
    from twisted.internet import reactor

    try:
        parse_endpoint(reactor, text, LOOPBACK)
    except EndpointError as error:
        raise ValueError(error.reason) from error
    return text


def add_defaults(endpoint: str, interface: str) -> str:
    """Return `endpoint` with the interface and the backlog added that it does not name.

    Raises ValueError for what Twisted would notice only when it listens, or never.
    """
    check_text(endpoint)
    kind, separator, rest = endpoint.partition(":")
    if kind == "stdio":
        raise ValueError("standard input accepts no connections")
    if kind == "haproxy":
        return f"haproxy:{add_defaults(rest, interface)}"
    given = _arguments(kind, rest) if separator else {}
    if given.get("interface") == "":  # which a socket binds to all interfaces
        raise ValueError(r"empty interface (0.0.0.0 for all of them; \: for a colon in it)")
    if (port := given.get("port")) is not None:
        try:
            port_number(port)
        except ValueError as error:
            raise ValueError(f"{port!r} is {error}") from error
    folder = given.get("path")
    if folder is not None and not Path(_unquoted(folder)).is_dir():
        raise ValueError(f"no folder {folder!r} with certificates")
    if kind == "tcp6" and "interface" not in given and not isIPv6Address(interface):
        if interface != LOOPBACK:
            raise ValueError(f"{interface} is not an IPv6 address")
        interface = LOOPBACK6
    defaults = {"interface": quoteStringArgument(interface), "backlog": str(BACKLOG)}
    names = _ARGUMENTS.get(kind, ())
    missing = [f"{k}={v}" for k, v in defaults.items() if k in names and k not in given]
    return ":".join([endpoint, *missing])


@frozen
class Claim:
    """What an endpoint takes for itself, to see whether two services ask for the same."""

    kind: str  # "tcp" for all that listen on a port
    name: str  # the port, the path or the socket of systemd
    interface: str = ""

    @classmethod
    def of(cls, endpoint: str, interface: str) -> "Claim":
        """Return the claim of an endpoint string that `parse_endpoint` accepts."""
        kind, _, rest = add_defaults(endpoint, interface).removeprefix("haproxy:").partition(":")
        given = {key: _unquoted(value) for key, value in _arguments(kind, rest).items()}
        if kind in _ARGUMENTS and "port" in given:
            return cls("tcp", given["port"], given["interface"])
        return cls(kind, given.get("address", rest))

    def excludes(self, other: "Claim") -> bool:
        """Say whether one process cannot have both."""
        what = self.kind, self.name
        if what != (other.kind, other.name) or what == _ANY_PORT:
            return False
        interfaces = {self.interface, other.interface}
        if len(interfaces) == 1 or "::" in interfaces:  # which takes IPv4, too
            return True
        return _ALL_IPV4 in interfaces and not any(":" in each for each in interfaces)


_ANY_PORT = ("tcp", "0")
_ALL_IPV4 = "0.0.0.0"  # noqa: S104 - to recognise it


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _arguments(kind: str, text: str) -> dict[str, str]:
    """Return the arguments of an endpoint string by name."""
    pairs = [re.split(r"(?<!\\)=", each, maxsplit=1) for each in re.split(r"(?<!\\):", text)]
    named = {pair[0]: pair[1] for pair in pairs if len(pair) > 1}
    positional = [pair[0] for pair in pairs if len(pair) == 1]
    return {**dict(zip(_ARGUMENTS.get(kind, ()), positional, strict=False)), **named}


@define(eq=False)
class EndpointReactor:
    """The reactor of one endpoint: `reactor`, with other defaults than Twisted's.

    has_mode: whether the endpoint names the mode of a UNIX socket.
    """

    reactor: Any
    has_mode: bool

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = BACKLOG, interface: str = ""
    ) -> Any:
        return self.reactor.listenTCP(port, factory, backlog, interface or LOOPBACK)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = BACKLOG,
        interface: str = "",
    ) -> Any:
        where = interface or LOOPBACK
        return self.reactor.listenSSL(port, factory, contextFactory, backlog, where)

    def listenUNIX(
        self,
        address: Any,
        factory: IProtocolFactory,
        backlog: int = BACKLOG,
        mode: int = 0o666,
        wantPID: int = 0,
    ) -> Any:
        """Listen on a UNIX socket, and remove one on which nothing listens.

        Twisted's lock (`wantPID`) names a process: in containers, where each process has the
        number 1, the lock of a killed one would count as that of the next.
        """
        if not self.has_mode:
            mode = 0o777 & ~_umask()  # as bind(2) does

        def listen() -> Any:
            return self.reactor.listenUNIX(address, factory, backlog=backlog, mode=mode)

        path = os.fsdecode(address)
        # Also while a new one is made: between bind(2) and listen(2) it looks abandoned.
        with _locked_folder(path) as locked:
            try:
                return listen()
            except CannotListenError as error:
                in_use = getattr(error.socketError, "errno", None) == errno.EADDRINUSE
                if not (in_use and locked and _is_abandoned(path)):
                    raise
            Path(path).unlink(missing_ok=True)
            factory.doStop()  # Twisted called doStart before it tried
            return listen()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


@contextmanager
def _locked_folder(path: str) -> Iterator[bool]:
    """Let one process at a time replace a socket; yield False if this one may not do it."""
    try:
        folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # no such folder, or one that this user cannot read
        yield False
        return
    try:
        try:
            # The lock ends with this process at the latest.
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process makes or replaces one now
            yield False
        except OSError:  # a file system without locks
            yield True
        else:
            yield True
    finally:
        os.close(folder)


def _is_abandoned(path: str) -> bool:
    """Say whether nothing listens on the UNIX socket `path`."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:  # its server has just stopped
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        with suppress(OSError):
            return probe.connect_ex(path) in (errno.ECONNREFUSED, errno.ENOENT)
    return False
