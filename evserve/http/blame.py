"""Whose fault it is: the origin's, or that of the proxy before it.

A proxy that is down must neither hide behind the origins nor bring them into disrepute: five
failures in a row, and an origin would be taken for down.
"""

from evserve.http.errors import (
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
from evserve.http.messages import Head
from evserve.http.proxies import Proxy


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
