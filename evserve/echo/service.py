"""The echo service: its options, and how its parts are put together."""

import math
import sys
from typing import TextIO

from prometheus_client import Gauge
from twisted.application.service import IService, MultiService
from twisted.python import usage

from evserve.echo.console import ConsoleService
from evserve.echo.datagrams import DatagramService, EchoDatagrams, Tally
from evserve.echo.protocol import Change, EchoFactory
from evserve.interfaces import IHost


def _transform(name: str) -> str:
    if name not in ("none", "upper"):
        raise ValueError("not a transform (none or upper)")
    return name


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("not a number of seconds (such as 2 or 0.5)")
    return value


class Options(usage.Options):
    """What echo adds to the options that every listening service takes."""

    longdesc = (
        "Sends back what arrives (RFC 862). A suffix goes to the end of each line, before its "
        "line break; upper changes a-z only. Over UDP, source ports below 1024 and the server's "
        "own port number get no answer: two servers must not answer each other for ever."
    )
    optParameters = [
        ["transform", None, "none", "What is done to the bytes: none or upper", _transform],
        ["suffix", None, None, "Text added to each line (over UDP: and to each datagram's end)"],
        ["delay", None, 0.0, "Seconds to wait before answering; order is kept", _seconds],
    ]
    optFlags = [
        ["udp", None, "Answer datagrams too, on the same --port and --interface"],
        ["console", None, "Read commands on standard input: status, connections, quit, help"],
    ]

    one_process = ("udp", "console")  # not to be had together with the host's --workers
    default_port = 9000  # when neither --port nor --listen says where

    def postOptions(self) -> None:
        """Refuse --udp without a port to bind."""
        if self["udp"] and self.get("port") is None and self.get("listen"):
            raise usage.UsageError("--udp needs --port N: --listen is for streams only")


def makeService(options: usage.Options, host: IHost) -> IService:
    """Return the service: the streams and, if asked for, datagrams and the console."""
    suffix = (options["suffix"] or "").encode(errors="surrogateescape")
    change = Change(options["transform"] == "upper", suffix)
    factory = EchoFactory(change, options["delay"], host.reactor)
    service = MultiService()
    host.listen(options, factory).setServiceParent(service)
    if options["delay"]:
        held = Gauge("evserve_delayed_bytes", "Bytes waiting for --delay.", registry=host.metrics)
        held.set_function(lambda: factory.held)
    if options["udp"]:
        _datagrams(options, host, change).setServiceParent(service)
    if options["console"]:
        _console(host, factory).setServiceParent(service)
    return service


def _datagrams(options: usage.Options, host: IHost, change: Change) -> IService:
    protocol = EchoDatagrams(change, options["delay"], host.reactor, Tally.of(host.metrics))
    port = Options.default_port if options["port"] is None else options["port"]
    return DatagramService(host, port, options["interface"], protocol)


def _console(host: IHost, factory: EchoFactory) -> IService:
    stdin, stdout = _descriptor(sys.stdin), _descriptor(sys.stdout)
    return ConsoleService(host, factory.connections, stdin, stdout)


def _descriptor(stream: TextIO | None) -> int | None:
    """Return a stream's descriptor; Python sets a stream that was closed at the start to None."""
    return None if stream is None else stream.fileno()
