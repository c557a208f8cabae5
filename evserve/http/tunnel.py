"""A way through an HTTP proxy to a server that it must not read (RFC 9110, section 9.3.6)."""

from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from evserve.http.blame import at_proxy, refusal
from evserve.http.errors import FetchError, ProxyFailed
from evserve.http.messages import Head, request_bytes
from evserve.http.parser import HeaderLimits, ResponseParser
from evserve.http.proxies import Proxy
from evserve.http.reasons import explain_loss
from evserve.http.url import Origin


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
