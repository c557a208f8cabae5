"""The echo service: its options, and how its parts are put together."""

import sys
from typing import TextIO

from prometheus_client import Gauge
from twisted.application.service import IService, MultiService
from twisted.python import usage
from typing_extensions import override

from evserve.echo.console import ConsoleService
from evserve.echo.datagrams import DatagramMetrics, DatagramService, EchoDatagrams
from evserve.echo.protocol import EchoFactory, Transform
from evserve.interfaces import IHost
from evserve.options import choice, seconds


class Options(usage.Options):
    """What echo adds to the options that every listening service takes."""

    longdesc = (
        "Sends back what arrives (RFC 862). A suffix goes to the end of each line, before its "
        "line break; upper changes a-z only. Over UDP, source ports below 1024 and the server's "
        "own port number get no answer: two servers must not answer each other forever."
    )
    optParameters = [
        [
            "transform",
            None,
            "none",
            "Transform of the bytes: none or upper",
            choice("none", "upper"),
        ],
        ["suffix", None, None, "Text to add to each line, over UDP also to each datagram"],
        ["delay", None, 0.0, "Seconds to wait before answering; order is kept", seconds],
    ]
    optFlags = [
        ["udp", None, "Answer datagrams too, on the same --port and --interface"],
        ["console", None, "Read commands on standard input: status, connections, quit, help"],
    ]

    one_process = ("udp", "console")  # the host refuses these with --workers
    default_port = 9000  # when there is neither --port nor --listen

    @override
    def postOptions(self) -> None:
        if self["udp"] and self.get("port") is None and self.get("listen"):
            raise usage.UsageError("--udp needs --port N: --listen is for streams only")


def makeService(options: usage.Options, host: IHost) -> IService:
    """Return the service: the streams and, if asked for, datagrams and the console."""
    suffix = (options["suffix"] or "").encode(errors="surrogateescape")
    transform = Transform(options["transform"] == "upper", suffix)
    factory = EchoFactory(transform, options["delay"], host.reactor)
    parts = [host.listen(options, factory)]
    if options["delay"]:
        gauge = Gauge("evserve_delayed_bytes", "Bytes waiting for --delay.", registry=host.metrics)
        gauge.set_function(lambda: factory.delayed_bytes)
    if options["udp"]:
        metrics = DatagramMetrics(host.metrics)
        echo = EchoDatagrams(transform, options["delay"], host.reactor, metrics)
        port = Options.default_port if options["port"] is None else options["port"]
        parts.append(DatagramService(host, port, options["interface"], echo))
    if options["console"]:
        stdin, stdout = _descriptor(sys.stdin), _descriptor(sys.stdout)
        parts.append(ConsoleService(host, factory, stdin, stdout))
    service = MultiService()
    for part in parts:
        part.setServiceParent(service)
    return service


def _descriptor(stream: TextIO | None) -> int | None:
    # Python sets a standard stream that was closed at the start to None.
    return None if stream is None else stream.fileno()
