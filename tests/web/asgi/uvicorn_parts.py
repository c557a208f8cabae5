"""A pytest plugin: evserve's parts in uvicorn's own tests of its protocols.

`pytest -p uvicorn_parts --server evserve|uvicorn` in a folder with those tests. The HTTP protocol
is evserve's, the transport in its tests is evserve's connection over a transport in memory, and
what serves websockets on sockets is the service `asgi`. `NOT_HERE` names what does not apply.
"""

import asyncio
from contextlib import asynccontextmanager

from servers import EvserveServers
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransportWithDisconnection
from uvicorn.protocols.http import httptools_impl

from evserve.web.asgi.connection import Connection, ConnectionFactory
from evserve.web.asgi.protocols import HTTPProtocol


NOT_HERE = {
    "test_supported_upgrade_request": "on wsproto, which the service does not use",
    "test_shutdown": "calls a method of uvicorn's server",
    "test_send_close_on_server_shutdown": "waits for a time, not for the server",
    "test_fragmented_message_exceeding_max_size": "a reset may overtake the close frame",
    # The headers that every answer has are no option.
    "test_default_server_headers": "a Server header",
    "test_multiple_server_header": "a Server header",
    "test_no_date_header": "no Date header",
}


class MemoryTransport(Connection):
    """evserve's connection, with what uvicorn's tests look at."""

    def __init__(self, sockname=None, peername=None, sslcontext=False):
        super().__init__(ConnectionFactory(None))
        self.sslcontext = sslcontext
        transport = StringTransportWithDisconnection(
            IPv4Address("TCP", *(sockname or ("127.0.0.1", 8000))),
            IPv4Address("TCP", *(peername or ("127.0.0.1", 8001))),
        )
        transport.protocol = self
        self.makeConnection(transport)  # it is held: the tests give the protocol what it receives
        transport.resumeProducing()

    @property
    def buffer(self):
        return self.transport.value()

    def clear_buffer(self):
        self.transport.clear()

    @property
    def read_paused(self):
        return self.transport.producerState == "paused"

    def get_extra_info(self, name, default=None):
        if name == "sslcontext":
            return self.sslcontext
        return super().get_extra_info(name, default)


class Shared:
    """The reactor's thread, which starts with the first server."""

    servers = None


@asynccontextmanager
async def run_server(config):
    if Shared.servers is None:
        Shared.servers = EvserveServers()
    if not config.loaded:
        config.load()
    server = await asyncio.to_thread(Shared.servers.start_configured, config)
    try:
        yield server
    finally:
        await asyncio.to_thread(Shared.servers.stop, server)


def pytest_addoption(parser):
    parser.addoption("--server", choices=["evserve", "uvicorn"], required=True)


def pytest_configure(config):
    if config.getoption("--server") == "evserve":
        httptools_impl.HttpToolsProtocol = HTTPProtocol


def pytest_collection_modifyitems(config, items):
    kept = [each for each in items if applies(each)]
    config.hook.pytest_deselected(items=[each for each in items if each not in kept])
    items[:] = kept
    if config.getoption("--server") == "evserve":
        for module in {each.module for each in items}:
            vars(module).update(MockTransport=MemoryTransport, run_server=run_server)


def applies(item):
    others = ("h11", "zttp", "wsproto")  # implementations that the service does not use
    return item.originalname not in NOT_HERE and not any(each in item.name for each in others)


def pytest_sessionfinish(session):
    if Shared.servers is not None:
        Shared.servers.close()
