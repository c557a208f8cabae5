"""Which proxy a request goes through: as options say, or the environment in curl's spelling.

A way through an HTTP proxy to a server that it must not read (RFC 9110, section 9.3.6).

Whose fault it is: the origin's, or that of the proxy before it.

A proxy that is down must neither hide behind the origins nor bring them into disrepute: five
failures in a row, and an origin would be taken for down.
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
from evserve.http.url import DEFAULT_PORTS, MAX_PORT, URL, Origin, parse_url


_CURLS_PORT = 1080
_PORT = re.compile(r":([^:@\]]+)$")  # of an authority


@frozen(cache_hash=True)
class Proxy:
    """A proxy, spoken to over TLS if its origin says https."""

    origin: Origin
    authorization: bytes | None = None  # the value of Proxy-Authorization


@frozen
class Proxies:
    """The proxies by scheme, and the hosts that are reached without."""

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[str, ...] = ()

    def choose(self, origin: Origin) -> Proxy | None:
        """Return the proxy for requests to `origin`."""
        proxy = self.https if origin.is_tls else self.http
        if proxy is None or any(_matches(entry, origin) for entry in self.exempt):
            return None
        return proxy


NO_PROXIES: Proxies = Proxies()


def parse_proxy(text: str) -> Proxy:
    """Return the proxy at `[http[s]://][user:password@]host[:port]`; raises ProxyFailed.

    Without a port it is 1080, or 443 with https, as curl has it. Messages hold no password.
    """
    scheme, rest = _split_scheme(text)
    if scheme not in DEFAULT_PORTS:
        raise _unusable(text, f"{scheme} is not a scheme for proxies here, http and https are")
    place = re.split(r"[/?#]", rest)[0]
    port = _PORT.search(place)
    if not port:
        default = _CURLS_PORT if scheme == "http" else DEFAULT_PORTS[scheme]
        place = f"{place.removesuffix(':')}:{default}"
    elif not (re.fullmatch(r"[0-9]{1,5}", port[1]) and 0 < int(port[1]) <= MAX_PORT):
        raise _unusable(text, "its port is not a number from 1 to 65535")
    try:
        url = parse_url(f"{scheme}://{place}/")
    except BadURL:
        raise _unusable(text, "write http://host:port") from None
    return Proxy(url.origin, _basic(url))


def named_proxy(text: str) -> Proxy:
    """Do the same for a proxy that somebody has just named, who must say what `foo` is to be."""
    proxy = parse_proxy(text)
    if "://" not in text and not _PORT.search(text):
        raise _unusable(text, "it has neither a scheme nor a port: write http://host:port")
    return proxy


def proxies_from(environment: Mapping[str, str]) -> Proxies:
    """Return what `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say.

    Lower case wins. HTTP_PROXY in capitals is not read: to a CGI program it is a header that
    anybody may send (CVE-2016-5385). Raises ProxyFailed, which names the variable.
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


def _split_scheme(text: str) -> tuple[str, str]:
    scheme, mark, rest = text.strip().partition("://")
    return (scheme.lower(), rest) if mark else ("http", scheme)


def _unusable(text: str, why: str) -> ProxyFailed:
    scheme, rest = _split_scheme(text)
    # Whatever may be a part of a password goes: all before an @, and a port that is none.
    _, at, place = rest.rpartition("@")
    host, colon, port = re.split(r"[/?#]", place)[0].partition(":")
    shown = f"{'...@' if at else ''}{host}{colon}{port if port.isdigit() else '...' * bool(colon)}"
    shown = f"{scheme}://{shown}" if "://" in text else shown
    return ProxyFailed(f"cannot use the proxy {shown!r}: {why}")


def _basic(url: URL) -> bytes | None:
    return None if url.credentials is None else Auth(*url.credentials).basic()


def _matches(entry: str, origin: Origin) -> bool:
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
    suffix = entry.removeprefix("*").lstrip(".")
    return origin.host == suffix or origin.host.endswith(f".{suffix}")


_OK = range(200, 300)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class TunnelEndpoint:
    """Connects to `origin` through `proxy`, which `endpoint` leads to."""

    _endpoint: IStreamClientEndpoint
    _proxy: Proxy
    _origin: Origin

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See IStreamClientEndpoint; fails with a ProxyFailed when the proxy says no."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        target = _full_authority(self._origin)
        lines = [(b"Host", target.encode("ascii"))]
        if self._proxy.authorization is not None:
            lines.append((b"Proxy-Authorization", self._proxy.authorization))
        tunnel = _Tunnel(request_bytes(b"CONNECT", target, lines), self._proxy)
        await connectProtocol(self._endpoint, tunnel)
        await tunnel.opened
        return tunnel.hand_over(factory)


class _Tunnel(Protocol):
    """Asks the proxy, then stands between the proxy and the protocol inside."""

    transport: Any

    def __init__(self, wire: bytes, proxy: Proxy) -> None:
        self._wire = wire
        self._proxy = proxy
        self._parser = ResponseParser(HeaderLimits())
        self._inner: IProtocol | None = None
        self.opened: Deferred[None] = Deferred(lambda _: self.transport.abortConnection())

    def connectionMade(self) -> None:
        self._parser.expect(b"CONNECT", self)
        self.transport.write(self._wire)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        try:
            self._parser.feed(data)
        except FetchError as error:
            self._refuse(error)
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

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            self._refuse(explain_loss(reason, self.transport))

    def _refuse(self, error: Exception) -> None:
        if not self.opened.called:
            error = at_proxy(error, self._proxy)
            if not isinstance(error, ProxyFailed):
                error = ProxyFailed(f"the proxy {self._proxy.origin} answers amiss: {error}")
            self.opened.errback(error)
        self.transport.abortConnection()


def _full_authority(origin: Origin) -> str:
    """Return `host:port`, which CONNECT wants in full."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"{host}:{origin.port}"


PROXY_AUTHENTICATION_REQUIRED = 407
_PASSING = (502, 503, 504)  # RFC 9110: the proxy could not reach the origin this time


def at_proxy(error: Exception, proxy: Proxy) -> Exception:
    """Return what `error` is if it came before the request had got past `proxy`."""
    place = proxy.origin
    if isinstance(error, ConnectFailed | ConnectTimeout):
        return ProxyUnreachable(f"the proxy cannot be used: {error}")
    if isinstance(error, ConnectionLost):
        return ProxyUnreachable(f"the proxy {place} broke off: {error}")
    if isinstance(error, TLSFailed):
        return ProxyFailed(f"the proxy {place} cannot be used: {error}")
    if isinstance(error, IdleTimeout | TotalTimeout):
        # Who was silent cannot be told, so the name stays; see Health for what follows from it.
        late = type(error)(f"{error}, asked through the proxy {place}")
        late.is_at_proxy = True
        return late
    return error


def refusal(proxy: Proxy, head: Head) -> FetchError:
    """Return the error for an answer that is the proxy's own, and no success."""
    reason = head.reason.decode("latin-1")
    said = f"the proxy {proxy.origin} answers {head.status} {reason}".rstrip()
    if head.status == PROXY_AUTHENTICATION_REQUIRED:
        given = proxy.authorization is not None
        hint = "not this name and password" if given else "it wants a name and a password"
        return ProxyFailed(f"{said}: {hint}")
    return TunnelFailed(said) if head.status in _PASSING else ProxyFailed(said)
