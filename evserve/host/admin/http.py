"""The HTTP side of the admin port: from a request to a response that a browser cannot misuse.

No client can keep the port from answering another, such as an orchestrator's probe of /healthz.
"""

# Most of twisted.web has no annotations.
# mypy: allow-untyped-calls

import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from ipaddress import ip_address
from typing import Any

import prometheus_client
from attrs import frozen
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import exposition as openmetrics
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from typing_extensions import override

from evserve.host.admin.status import current_status, unready_reason
from evserve.host.application import RootService
from evserve.host.config import ServiceConfig
from evserve.host.metrics import Metrics


MAX_CONNECTIONS = 24  # few enough for the descriptors that the host keeps free
REQUEST_SECONDS = 5  # for a whole request
_MAX_BODY = 16_384  # bytes that are read and ignored; no request here needs any
_METHODS = (b"GET", b"HEAD")
_HEADERS = {
    "Allow": "GET, HEAD",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "evserve",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@frozen
class Response:
    """A response; `policy` is its Content-Security-Policy."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"
    policy: str = "default-src 'none'; frame-ancestors 'none'"


def _line(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(f"{text}\n".encode(), status)


class AdminResource(Resource):
    """Responds to every request about the services of `configs`, which `root` runs."""

    isLeaf = True

    def __init__(self, root: RootService, configs: list[ServiceConfig]) -> None:
        super().__init__()
        self._root = root
        self._configs = configs
        self._started_at = root.reactor.seconds()
        page, registry = status_page(), metrics_registry(root.metrics)
        # Each is called with the request's Accept header, "" if it has none.
        self._pages: dict[str, Callable[[str], Response]] = {
            "/": lambda _: page,
            "/api/status": lambda _: self._status(),
            "/healthz": lambda _: _line("ok"),
            "/metrics": lambda accept: metrics_response(registry, accept),
            "/readyz": lambda _: self._readiness(),
        }

    @override
    def render(self, request: Request) -> bytes:
        response = self._respond(request)
        request.setResponseCode(response.status, response.status.phrase.encode())
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        request.setHeader("Content-Security-Policy", response.policy)
        request.setHeader("Content-Type", response.content_type)
        request.setHeader("Content-Length", str(len(response.body)))
        return b"" if request.method == b"HEAD" else response.body

    def _respond(self, request: Request) -> Response:
        hosts = request.requestHeaders.getRawHeaders("host", [])
        if len(hosts) > 1 or (not hosts and request.clientproto == b"HTTP/1.1"):
            return _line("one Host header is required (RFC 9112, 3.2)", HTTPStatus.BAD_REQUEST)
        if not is_allowed_host(hosts, getattr(request.getHost(), "host", None)):
            text = "Host header: not a name of this server (use localhost or its address)"
            return _line(text, HTTPStatus.MISDIRECTED_REQUEST)
        if request.method not in _METHODS:
            return _line("method not allowed (use GET or HEAD)", HTTPStatus.METHOD_NOT_ALLOWED)
        page = self._pages.get(request.path.decode("utf-8", "replace"))
        if page is None:
            return _line(f"not found (there are {' '.join(self._pages)})", HTTPStatus.NOT_FOUND)
        return page(",".join(request.requestHeaders.getRawHeaders("accept", [])))

    def _status(self) -> Response:
        status = current_status(self._root, self._configs, self._started_at)
        return Response(status.as_json(), content_type="application/json")

    def _readiness(self) -> Response:
        reason = unready_reason(self._root, list(self._root.metrics.collect()))
        if reason is None:
            return _line("ready")
        return _line(reason, HTTPStatus.SERVICE_UNAVAILABLE)


class AdminChannel(HTTPChannel):
    """A connection, which a slow client or a large body cannot hold."""

    site: "AdminSite"
    transport: Any
    _deadline: Any = None  # of the request that is being received
    _is_refused = False

    @override
    def connectionMade(self) -> None:
        super().connectionMade()
        self.site.opened(self)
        self._await_request()

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._deadline is None:
            self._await_request()
        super().dataReceived(data)

    @override
    def allHeadersReceived(self) -> None:
        if self.length is not None and self.length <= _MAX_BODY:
            super().allHeadersReceived()
        else:
            self._is_refused = True
            self.transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\n")
            self.loseConnection()

    @override
    def rawDataReceived(self, data: bytes) -> None:
        if not self._is_refused:
            super().rawDataReceived(data)

    @override
    def allContentReceived(self) -> None:
        self._stop_waiting()
        self.site.served(self)
        super().allContentReceived()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_waiting()
        self.site.closed(self)
        super().connectionLost(reason)

    def _await_request(self) -> None:
        self._deadline = self.callLater(REQUEST_SECONDS, self.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def abort(self) -> None:
        """Cut the connection."""
        self.transport.abortConnection()


class AdminSite(Site):
    """A site without an access log, because the status page sends a request every second.

    It has at most MAX_CONNECTIONS: a new one replaces the one that was served least recently.
    """

    displayTracebacks = False
    protocol: Any = AdminChannel

    def __init__(self, resource: Resource, reactor: Any) -> None:
        super().__init__(resource, reactor=reactor)
        self._channels: dict[AdminChannel, None] = {}

    @override
    def log(self, request: Any) -> None:
        pass

    @override
    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]

    def opened(self, channel: AdminChannel) -> None:
        """Add a connection."""
        self._channels[channel] = None
        if len(self._channels) > MAX_CONNECTIONS:
            next(iter(self._channels)).abort()

    def served(self, channel: AdminChannel) -> None:
        """Note that a connection has sent a whole request."""
        if channel in self._channels:
            del self._channels[channel]
            self._channels[channel] = None

    def closed(self, channel: AdminChannel) -> None:
        """Remove a connection."""
        self._channels.pop(channel, None)


# A web site can point its own name at 127.0.0.1 and then read what the visitor's browser reaches
# there, as if it were the same site (DNS rebinding). The Host header shows the foreign name.
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:\d{1,5})?")  # RFC 9110, 7.2
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_allowed_host(headers: Iterable[str], reached: str | None) -> bool:
    """Say whether every Host header of a request names the address that the client reached.

    reached: the server's address of the connection; None for a UNIX socket. Names are checked on
    loopback only: elsewhere the network decides who can connect.
    """
    if reached is None or not _is_loopback(reached):
        return True
    return all(_host_of(header) in _LOCAL_NAMES | {reached} for header in headers)


def _host_of(header: str) -> str | None:
    match = _HOST.fullmatch(header.strip())
    return match["host"].strip("[]").lower() if match else None


def _is_loopback(address: str) -> bool:
    parsed = ip_address(address.partition("%")[0])
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


def status_page() -> Response:
    """Return the live status page; its policy allows its own style and script by their hashes."""
    body = files("evserve.host.admin").joinpath("page.html").read_bytes()
    hashes = {
        tag: b64encode(sha256(text).digest()).decode() for tag, text in _INLINE.findall(body)
    }
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashes[b'style']}'; "
        f"script-src 'sha256-{hashes[b'script']}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Response(body, content_type="text/html; charset=utf-8", policy=policy)


_OPENMETRICS = re.compile(r"\s*application/openmetrics-text\s*(;.*)?", re.IGNORECASE)
_REFUSED = re.compile(r";\s*q=0(\.0*)?\s*(;|$)", re.IGNORECASE)


def metrics_registry(metrics: Metrics) -> CollectorRegistry:
    """Return a registry of the services' metrics and of those of the process and of Python."""
    registry = CollectorRegistry()
    registry.register(metrics)
    prometheus_client.ProcessCollector(registry=registry)
    prometheus_client.PlatformCollector(registry=registry)
    prometheus_client.GCCollector(registry=registry)
    return registry


def metrics_response(registry: CollectorRegistry, accept: str) -> Response:
    """Return all metrics: as OpenMetrics if the Accept header names that, else Prometheus text.

    prometheus_client has a Twisted resource for this, but importing it installs a reactor.
    """
    if any(
        _OPENMETRICS.fullmatch(each) and not _REFUSED.search(each) for each in accept.split(",")
    ):
        body = openmetrics.generate_latest(registry)
        return Response(body, content_type=openmetrics.CONTENT_TYPE_LATEST)
    return Response(prometheus_client.generate_latest(registry), content_type=_PROMETHEUS)
