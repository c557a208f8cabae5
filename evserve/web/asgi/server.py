"""What the connections of a service share: uvicorn's configuration and state of a server."""

import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from uvicorn.config import Config
from uvicorn.server import ServerState

from evserve.aio import reactor_loop
from evserve.web.asgi.lifespan import Lifespan, NoLifespan
from evserve.web.asgi.logs import AccessLog, connect_loggers
from evserve.web.asgi.protocols import HTTPProtocol, WebSocketProtocol


class Server:
    """Makes the protocols of connections, and knows those that are open and their requests.

    options: those of the service.
    """

    def __init__(
        self, options: Mapping[str, Any], reactor: Any, application: Callable[..., Any]
    ) -> None:
        self.state = ServerState()
        self.config = Config(
            lambda: application,
            factory=True,  # uvicorn would call the application to find out whether it is one
            interface="asgi3",
            http=HTTPProtocol,
            ws=WebSocketProtocol,
            ws_max_size=options["ws-max-size"],
            lifespan=options["lifespan"],
            log_config=None,
            log_level="info",
            server_header=False,
            forwarded_allow_ips=options["forwarded-allow-ips"],
            root_path=options["root-path"] or "",
            timeout_keep_alive=options["timeout-keep-alive"],
        )
        self.config.load()
        connect_loggers()
        kind = NoLifespan if options["lifespan"] == "off" else Lifespan
        self.lifespan: Lifespan | NoLifespan = kind(self.config)
        self._access_log = None if options["no-access-log"] else AccessLog(reactor)
        self._loop = reactor_loop(reactor)

    def make_protocol(self) -> HTTPProtocol:
        """Return uvicorn's protocol for a new connection."""
        protocol = HTTPProtocol(self.config, self.state, self.lifespan.state, self._loop)
        protocol.access_log = self._access_log is not None
        protocol.access_logger = self._access_log
        return protocol

    def second_passed(self) -> None:
        """Renew the Date header, and close connections whose requests do not arrive."""
        date = formatdate(time.time(), usegmt=True).encode()
        self.state.default_headers = [(b"date", date)]
        for protocol in tuple(self.state.connections):
            if isinstance(protocol, HTTPProtocol):
                protocol.second_passed()

    def stop(self) -> None:
        """Write the last lines of the access log."""
        if self._access_log is not None:
            self._access_log.stop()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics (prometheus_client's Collector)."""
        open_now = self.state.connections
        yield CounterMetricFamily(
            "evserve_asgi_requests", "Answered requests.", self.state.total_requests
        )
        yield GaugeMetricFamily(
            "evserve_asgi_requests_in_progress",
            "Requests that are being answered.",
            sum(isinstance(each, HTTPProtocol) and each.is_answering for each in open_now),
        )
        yield GaugeMetricFamily(
            "evserve_asgi_websockets",
            "Open websockets.",
            sum(not isinstance(each, HTTPProtocol) for each in open_now),
        )
