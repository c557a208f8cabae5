"""HTTP proxies: which one a request passes, CONNECT tunnels, and errors that are a proxy's.

A proxy that fails must not look like an origin that fails: an origin with several failures in a
row is taken for down.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from evserve.http.auth import Auth
from evserve.http.connect import explain_loss
from evserve.http.errors import (
    BadURL,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FetchError,
    IdleTimeout,
    ProxyFailed,
    ProxyUnreachable,
    TLSFailed,
    TotalTimeout,
    TunnelFailed,
)
from evserve.http.headers import Head, request_bytes
from evserve.http.parser import HeaderLimits, ResponseParser
from evserve.http.url import DEFAULT_PORTS, Origin, parse_url
from evserve.options import MAX_PORT


PROXY_AUTHENTICATION_REQUIRED = 407
_OK = range(200, 300)
_TRANSIENT = (502, 503, 504)  # RFC 9110: the proxy could not reach the origin this time
_DEFAULT_PORT = 1080  # curl's default, too
_PORT = re.compile(r":([^:@\]]+)$")  # of an authority


@frozen(cache_hash=True)
class Proxy:
    """A proxy. If its origin is https, the connection to the proxy itself uses TLS."""

    origin: Origin
    authorization: bytes | None = None  # the value of Proxy-Authorization


@frozen
class Proxies:
    """The proxies for http and https, and the hosts that are connected to directly."""

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[str, ...] = ()  # host, .domain, host:port, network, or *

    def choose(self, origin: Origin) -> Proxy | None:
        """Return the proxy for requests to `origin`, or None."""
        proxy = self.https if origin.is_tls else self.http
        if proxy is None or any(_is_exempt(origin, entry) for entry in self.exempt):
            return None
        return proxy


NO_PROXIES: Proxies = Proxies()


def parse_proxy(text: str) -> Proxy:
    """Return the proxy at `[http[s]://][user:password@]host[:port]`. Raises ProxyFailed.

    The default port is 1080, or 443 with https, as with curl. Messages contain no password.
    """
    scheme, rest = _split_scheme(text)
    if scheme not in DEFAULT_PORTS:
        raise _unusable(text, f"unsupported scheme {scheme} (use http or https)")
    place = re.split(r"[/?#]", rest)[0]
    port = _PORT.search(place)
    if not port:
        default = _DEFAULT_PORT if scheme == "http" else DEFAULT_PORTS[scheme]
        place = f"{place.removesuffix(':')}:{default}"
    elif not (re.fullmatch(r"[0-9]{1,5}", port[1]) and 0 < int(port[1]) <= MAX_PORT):
        raise _unusable(text, f"its port is not a number from 1 to {MAX_PORT}")
    try:
        url = parse_url(f"{scheme}://{place}/")
    except BadURL:
        raise _unusable(text, "write http://host:port") from None
    authorization = None if url.credentials is None else Auth(*url.credentials).basic()
    return Proxy(url.origin, authorization)


def named_proxy(text: str) -> Proxy:
    """Parse the value of an option as `parse_proxy` does, but refuse a single word."""
    proxy = parse_proxy(text)
    if "://" not in text and not _PORT.search(text):
        raise _unusable(text, "it has neither a scheme nor a port: write http://host:port")
    return proxy


def proxies_from(environment: Mapping[str, str]) -> Proxies:
    """Return the proxies in `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`.

    Lower case wins. HTTP_PROXY in capitals is not read: to a CGI program it is a header that
    every client may send (CVE-2016-5385). Raises ProxyFailed, which names the variable.
    """

    def read(*names: str) -> Proxy | None:
        for name in names:
            if environment.get(name):
                try:
                    return parse_proxy(environment[name])
                except ProxyFailed as error:
                    raise ProxyFailed(f"{name}: {error}") from None
        return None

    listed = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    exempt = tuple(listed.lower().replace(",", " ").split())
    if "*" in exempt:
        return NO_PROXIES
    everything = "all_proxy", "ALL_PROXY"
    return Proxies(
        read("http_proxy", *everything), read("https_proxy", "HTTPS_PROXY", *everything), exempt
    )


def as_proxy_error(error: Exception, proxy: Proxy) -> Exception:
    """Return `error` as one of `proxy`, if it came before the request had passed the proxy."""
    place = proxy.origin
    if isinstance(error, ConnectFailed | ConnectTimeout):
        return ProxyUnreachable(f"the proxy cannot be used: {error}")
    if isinstance(error, ConnectionLost):
        return ProxyUnreachable(f"the proxy {place} failed: {error}")
    if isinstance(error, TLSFailed):
        return ProxyFailed(f"the proxy {place} cannot be used: {error}")
    if isinstance(error, IdleTimeout | TotalTimeout):
        # The proxy or the origin was silent, so the class of the error stays.
        late = type(error)(f"{error} (through the proxy {place})")
        late.is_at_proxy = True
        return late
    return error


def refusal(proxy: Proxy, head: Head) -> FetchError:
    """Return the error for an unsuccessful response of the proxy itself."""
    reason = head.reason.decode("latin-1")
    answer = f"the proxy {proxy.origin} answers {head.status} {reason}".rstrip()
    if head.status == PROXY_AUTHENTICATION_REQUIRED:
        if proxy.authorization is None:
            return ProxyFailed(f"{answer}: it requires a user name and a password")
        return ProxyFailed(f"{answer}: wrong user name or password")
    return TunnelFailed(answer) if head.status in _TRANSIENT else ProxyFailed(answer)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class TunnelEndpoint:
    """Connects to `origin` through a CONNECT tunnel (RFC 9110, section 9.3.6).

    endpoint: connects to the proxy. Fails with ProxyFailed if the proxy refuses.
    """

    _endpoint: IStreamClientEndpoint
    _proxy: Proxy
    _origin: Origin

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        host, port = self._origin.host, self._origin.port
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [(b"Host", target.encode("ascii"))]
        if self._proxy.authorization is not None:
            lines.append((b"Proxy-Authorization", self._proxy.authorization))
        tunnel = _Tunnel(request_bytes(b"CONNECT", target, lines), self._proxy)
        await connectProtocol(self._endpoint, tunnel)
        await tunnel.opened
        return tunnel.hand_over(factory)


class _Tunnel(Protocol):
    """Asks the proxy for a tunnel, and then passes data to the protocol inside."""

    transport: Any

    def __init__(self, request: bytes, proxy: Proxy) -> None:
        self._request = request
        self._proxy = proxy
        self._parser = ResponseParser(HeaderLimits())
        self._inner: IProtocol | None = None
        self.opened: Deferred[None] = Deferred(lambda _: self.transport.abortConnection())

    @override
    def connectionMade(self) -> None:
        self._parser.expect(b"CONNECT", self)
        self.transport.write(self._request)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        try:
            self._parser.feed(data)
        except FetchError as error:
            self._fail(error)
        else:
            if self._parser.done and not self.opened.called:
                self.opened.callback(None)

    def on_head(self, head: Head) -> None:
        if head.status not in _OK:
            raise refusal(self._proxy, head)

    def on_data(self, data: bytes) -> None:
        raise AssertionError("an opened tunnel has no body, and a refused one is not read")

    def hand_over(self, factory: IProtocolFactory) -> IProtocol:
        inner = factory.buildProtocol(self.transport.getPeer())
        assert inner is not None
        self._inner = inner
        inner.makeConnection(self.transport)
        return inner

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            self._fail(explain_loss(reason, self.transport))

    def _fail(self, error: Exception) -> None:
        if not self.opened.called:
            error = as_proxy_error(error, self._proxy)
            if not isinstance(error, ProxyFailed):
                place = self._proxy.origin
                error = ProxyFailed(
                    f"the proxy {place} answers with a malformed response: {error}"
                )
            self.opened.errback(error)
        self.transport.abortConnection()


def _split_scheme(text: str) -> tuple[str, str]:
    scheme, mark, rest = text.strip().partition("://")
    return (scheme.lower(), rest) if mark else ("http", scheme)


def _unusable(text: str, problem: str) -> ProxyFailed:
    scheme, rest = _split_scheme(text)
    # Hide what may be a part of a password: all before an @, and a port that is not a number.
    _, at, place = rest.rpartition("@")
    host, colon, port = re.split(r"[/?#]", place)[0].partition(":")
    shown = f"{'...@' if at else ''}{host}{colon}{port if port.isdigit() else '...' * bool(colon)}"
    shown = f"{scheme}://{shown}" if "://" in text else shown
    return ProxyFailed(f"cannot use the proxy {shown!r}: {problem}")


def _is_exempt(origin: Origin, entry: str) -> bool:
    """Whether an entry of `no_proxy` covers `origin`."""
    if entry == "*":
        return True
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and not (":" in name and not name.endswith("]")):
        if int(port) != origin.port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        return ip_address(origin.host) in ip_network(entry, strict=False)
    except ValueError:
        pass
    host = origin.host.removesuffix(".")
    suffix = entry.removeprefix("*").strip(".")
    return host == suffix or host.endswith(f".{suffix}")
