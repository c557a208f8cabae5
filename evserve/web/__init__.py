"""A fast HTTP/1.1 server channel for any `twisted.web.server.Site`: `site = fast(Site(root))`.

Resources, requests and the site stay what they are. Any Twisted program can use it; it imports
nothing from the rest of evserve.

    access_log  the lines of the access log, written many at a time
    channel     FastChannel, a connection: reading, bodies, time-outs, back-pressure
    head        the head of a request from its bytes, the head of an answer to bytes
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

    from evserve.web.channel import FastChannel

__all__ = ["fast"]

_Factory = TypeVar("_Factory", bound="HTTPFactory")


# What a channel class may set without making another channel of it.
_SETTINGS = {"requestFactory", "timeOut", "abortTimeout", "maxHeaders", "totalHeadersSize"}


def fast(factory: _Factory) -> _Factory:
    """Change a `Site`, or another `HTTPFactory`, to serve by `FastChannel`, and return it.

    If it makes stock requests, `server.Request`, it makes `FastRequest`s from now on; other
    request factories stay. Connections that are open stay as they are. Raises ValueError for a
    factory whose channel has methods of its own.
    """
    from twisted.web.server import Request

    from evserve.web.access_log import gather_log
    from evserve.web.request import FastRequest

    changed: Any = factory
    changed.protocol = _fast_channel(changed)
    if getattr(changed, "requestFactory", None) is Request:
        changed.requestFactory = FastRequest
    gather_log(factory)
    return factory


def _fast_channel(factory: Any) -> "type[FastChannel]":
    from twisted.web.http import HTTPChannel, _genericHTTPChannelProtocolFactory

    from evserve.web.channel import FastChannel

    kind = factory.protocol
    if getattr(kind, "__func__", None) is _genericHTTPChannelProtocolFactory:
        return FastChannel
    if isinstance(kind, type) and issubclass(kind, FastChannel):
        return kind
    if isinstance(kind, type) and issubclass(kind, HTTPChannel):
        own = [vars(each) for each in kind.__mro__[: kind.__mro__.index(HTTPChannel)]]
        names = {name for each in own for name in each if not name.startswith("__")}
        if names <= _SETTINGS:
            return type(
                kind.__name__, (FastChannel,), {name: getattr(kind, name) for name in names}
            )
    raise ValueError(f"{factory!r} has a channel of its own")
