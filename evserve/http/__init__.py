"""An HTTP/1.1 client for Twisted: connections, limits, redirects, cookies, proxies.

    agent = Agent(Client(reactor))  # an IAgent
    client = treq_client(reactor)  # a treq.client.HTTPClient

It knows nothing of crawling; `evserve.fetch` does.

    agent       Agent, treq_client: the client as other programs know it
    client      Client and Call: from a Request to calls of a Receiver
    request     Request, Receiver, and the bytes of a request
    headers     Headers, Head (of a response)
    redirects   the next request, and how many there may be
    auth        Auth, Basic and Digest
    cookies     Cookies
    pool        Pool: connections by origin, their limits, the calls that wait for them
    deadlines   one timer for all timeouts
    connection  Connection: one request and response at a time; request bodies
    connect     endpoints, private addresses, TLS, errors of connecting
    proxy       Proxy, Proxies, CONNECT tunnels
    parser      ResponseParser: responses from bytes, header limits
    lenient     LenientParser: responses that break the RFC
    decoding    ContentDecoder: gzip, deflate, br, zstd; decompression limits
    settings    Settings, Timeouts
    url         URL, Origin, parse_url
    errors      FetchError and its subclasses

The way of a request: `Client.fetch` makes a `Call`. The call asks `Pool.origin_pool` for the
connections of its origin, and `OriginPool.submit` assigns an idle one, or makes one with an
endpoint of `connect` or `proxy`. `Client.serialize` composes the bytes, and `Connection.start`
sends them. What arrives goes from `Connection.dataReceived` through `ResponseParser.feed` to
`Call.on_head`, which follows redirects and answers challenges, and `Call.on_data`, which passes
the body on: at once, or through a `BodyFlow` that decompresses, counts and pauses. The receiver
gets `started`, `received` and `finished`, after the connection has gone back to its pool.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from evserve.http.agent import Agent as Agent
    from evserve.http.agent import treq_client as treq_client
    from evserve.http.auth import Auth as Auth
    from evserve.http.client import Call as Call
    from evserve.http.client import Client as Client
    from evserve.http.connect import TLS as TLS
    from evserve.http.cookies import Cookies as Cookies
    from evserve.http.errors import FetchError as FetchError
    from evserve.http.headers import Head as Head
    from evserve.http.headers import Headers as Headers
    from evserve.http.proxy import Proxies as Proxies
    from evserve.http.proxy import Proxy as Proxy
    from evserve.http.proxy import parse_proxy as parse_proxy
    from evserve.http.proxy import proxies_from as proxies_from
    from evserve.http.request import Receiver as Receiver
    from evserve.http.request import Request as Request
    from evserve.http.settings import Settings as Settings
    from evserve.http.settings import Timeouts as Timeouts
    from evserve.http.url import URL as URL
    from evserve.http.url import Origin as Origin
    from evserve.http.url import parse_url as parse_url


# Loaded on first use: a program that only parses URLs need not wait for OpenSSL.
_EXPORTS = {
    "agent": ("Agent", "treq_client"),
    "auth": ("Auth",),
    "client": ("Call", "Client"),
    "connect": ("TLS",),
    "cookies": ("Cookies",),
    "errors": ("FetchError",),
    "headers": ("Head", "Headers"),
    "proxy": ("Proxies", "Proxy", "parse_proxy", "proxies_from"),
    "request": ("Receiver", "Request"),
    "settings": ("Settings", "Timeouts"),
    "url": ("URL", "Origin", "parse_url"),
}


def __getattr__(name: str) -> Any:
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
