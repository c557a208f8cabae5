"""A fast HTTP/1.1 server channel for any `twisted.web.server.Site`: `site = fast(Site(root))`.

Resources, requests and the site stay what they are. Any Twisted program can use it; it imports
nothing from the rest of evserve.

    access_log  the access log of a site
    asgi        ASGI applications: a service of evserve's, which has nothing to do with the channel
    channel     FastChannel, a connection: reading, bodies, time-outs, back-pressure
    head        the head of a request from its bytes, the head of an answer to bytes
    log_lines   lines of an access log, written or made log events many at a time
    request     FastRequest, a `server.Request` that does the same in fewer steps
    static      small files of `static.File`, sent without its detours
    tap         `twistd -n evserve web`

The way of a request:

1. The transport calls `FastChannel.dataReceived`, which finds the end of the head.
2. `HeadParser.parse` gives it to llhttp and refuses what two servers might read in two ways.
3. The channel makes the request, decides what follows the answer and passes the body on.
4. `FastRequest.process` has `find_resource` find the resource, or send a small file; `render`
   calls it.
5. `FastRequest.write` sends head and body in one write; `finish` calls `AccessLog.log` and tells
   the channel, whose `_serve` goes on with what has arrived meanwhile.
"""

from typing import TYPE_CHECKING, Any, TypeVar


if TYPE_CHECKING:
    from twisted.web.http import HTTPFactory

__all__ = ["fast"]

_Factory = TypeVar("_Factory", bound="HTTPFactory")


def fast(factory: _Factory) -> _Factory:
    """Change a `Site`, or another `HTTPFactory`, to serve by `FastChannel`, and return it.

    If it makes stock requests, `server.Request`, it makes `FastRequest`s from now on; other
    request factories stay. Connections that are open stay as they are. Raises ValueError for a
    factory with a channel class of its own, unless that is a subclass of `FastChannel`.
    """
    from twisted.web.http import HTTPChannel, _genericHTTPChannelProtocolFactory
    from twisted.web.server import Request

    from evserve.web.access_log import gather_log
    from evserve.web.channel import FastChannel
    from evserve.web.request import FastRequest

    changed: Any = factory
    channel = changed.protocol
    stock = (HTTPChannel, _genericHTTPChannelProtocolFactory)
    if getattr(channel, "__func__", channel) in stock:
        changed.protocol = FastChannel
    elif not (isinstance(channel, type) and issubclass(channel, FastChannel)):
        raise ValueError(f"{channel!r} is no subclass of FastChannel")
    if getattr(changed, "requestFactory", None) is Request:
        changed.requestFactory = FastRequest
    gather_log(factory)
    return factory
