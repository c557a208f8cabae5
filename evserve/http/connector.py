"""The way to an origin: directly, through a proxy, or through a tunnel; with TLS or without."""

from typing import Any

from attrs import define
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from evserve.http.guard import GuardedEndpoint, plain_endpoint
from evserve.http.proxies import Proxy
from evserve.http.tls import TLS
from evserve.http.tunnel import TunnelEndpoint
from evserve.http.url import Origin


@define(eq=False)
class Connector:
    """Makes endpoints."""

    _reactor: Any
    _tls: TLS
    _allow_private: bool
    _timeout: float

    def endpoint(self, origin: Origin, proxy: Proxy | None) -> IStreamClientEndpoint:
        """Return an endpoint for connections to `origin`."""
        way = self._direct(origin) if proxy is None else self._proxied(origin, proxy)
        return wrapClientTLS(self._tls.of(origin.host), way) if origin.is_tls else way

    def _direct(self, origin: Origin) -> IStreamClientEndpoint:
        if self._allow_private:
            return plain_endpoint(self._reactor, origin.host, origin.port, self._timeout)
        return GuardedEndpoint(self._reactor, origin.host, origin.port, self._timeout)

    def _proxied(self, origin: Origin, proxy: Proxy) -> IStreamClientEndpoint:
        # Whoever configured a proxy knows where it is: it may well be private.
        place = proxy.origin
        way = plain_endpoint(self._reactor, place.host, place.port, self._timeout)
        if place.is_tls:
            way = wrapClientTLS(self._tls.of(place.host), way)
        return TunnelEndpoint(way, proxy, origin) if origin.is_tls else way
