"""The servers to compare: command lines that print `listening on tcp 127.0.0.1:PORT`."""

import asyncio
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.python.reflect import namedAny


# evserve's limits are on, so the figures contain what they cost.
_LIMITS = ["--max-connections=50000", "--max-per-peer=50000", "--idle-timeout=600"]


def evserve(reactor: str) -> list[str]:
    """Return the command line of evserve's echo on one of Twisted's reactors."""
    twistd = str(Path(sys.executable).with_name("twistd"))
    return [twistd, f"--reactor={reactor}", "-n", "evserve", "--port", "0", *_LIMITS]


def twisted() -> dict[str, list[str]]:
    """Return the command lines of a server that writes in small pieces, on three reactors."""
    here = [sys.executable, "-m", __spec__.name]
    return {name: [*here, "pieces", name] for name in INSTALL}


def echo_servers(floor: str | None) -> dict[str, list[str]]:
    """Return the echo servers by name; `floor` is the C server, if there is a compiler."""
    here = [sys.executable, "-m", __spec__.name]
    servers = {
        "evserve, uvloop": evserve("uvloop"),
        "evserve, epoll": evserve("epoll"),
        "evserve, asyncio": evserve("asyncio"),
        "uvloop Protocol": [*here, "uvloop"],
        "asyncio Protocol": [*here, "asyncio"],
    }
    if find_spec("gevent") is not None:
        servers["gevent"] = [*here, "gevent"]
    if floor is not None:
        servers["C epoll"] = [floor]
    return servers


class Echo(asyncio.Protocol):
    """The cheapest echo that an asyncio protocol can be."""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send the data back."""
        self.transport.write(data)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=4096)
    _announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _announce(port: int) -> None:
    print(f"listening on tcp 127.0.0.1:{port}", flush=True)


def _gevent() -> None:
    from gevent.server import StreamServer  # type: ignore[import-untyped,unused-ignore]  # optional

    def echo(client: socket.socket, _address: object) -> None:
        with suppress(ConnectionError):  # gevent would write a traceback for each to our pipe
            while data := client.recv(262144):
                client.sendall(data)

    server = StreamServer(("127.0.0.1", 0), echo, backlog=4096)
    server.start()
    _announce(server.server_port)
    server.serve_forever()


PIECES = 10


def _pieces(name: str) -> None:
    namedAny(INSTALL[name])()
    from twisted.internet import reactor as installed
    from twisted.internet.protocol import Factory, Protocol

    class Pieces(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            for _ in range(PIECES):
                self.transport.write(data)

    reactor: Any = installed
    factory = Factory.forProtocol(Pieces)
    port = reactor.listenTCP(0, factory, backlog=4096, interface="127.0.0.1")
    _announce(port.getHost().port)
    reactor.run()


INSTALL = {
    "epoll": "twisted.internet.epollreactor.install",
    "asyncio": "twisted.internet.asyncioreactor.install",
    "uvloop": "evserve.reactor.install",
}


def main(kind: str, reactor: str | None = None) -> None:
    """Serve until killed."""
    if reactor is not None:
        _pieces(reactor)
    elif kind == "gevent":
        _gevent()
    elif kind == "uvloop":
        import uvloop

        uvloop.run(_serve())
    else:
        asyncio.run(_serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
