"""`FastRequest`: what `fast` makes of a site's requests, if they are stock ones."""

from io import BytesIO
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.python.reflect import qual
from twisted.web import server
from twisted.web.error import UnsupportedMethod
from twisted.web.http import NO_BODY_CODES, datetimeToString, parse_qs
from twisted.web.resource import Resource, _IEncodingResource
from typing_extensions import override

from evserve.web.head import (
    Fields,
    canonical_names,
    headers_of,
    status_line,
    write_head,
)
from evserve.web.static import find_resource


if TYPE_CHECKING:
    from evserve.web.channel import FastChannel

# A byte as a number: for bytes, `in` first makes and drops a TypeError (Python 3.11).
_QUERY, _ESCAPE = b"?%"

# Stock methods, whose work is done here unless another class has its own.
_get_resource_for = server.Site.getResourceFor
_render = Resource.render
_new = object.__new__


class _Date:
    """The Date header of a second."""

    second = 0
    text = b""


class FastRequest(server.Request):
    """A `server.Request` that does the same in fewer steps.

    What is not overridden here, or is rare, goes the stock way.
    """

    # Twisted says so by comments, or not at all.
    channel: "FastChannel"
    method: bytes
    uri: bytes
    path: bytes
    clientproto: bytes
    code: int
    prepath: list[bytes]
    postpath: list[bytes]
    content: Any
    _adapterCache: dict[str, Any]

    @classmethod
    def from_head(cls, channel: "FastChannel", fields: Fields) -> "FastRequest":
        """Return what the constructor would, with a header.

        It sets all that the constructors of three base classes set, part of which is replaced
        for each request.
        """
        self = _new(cls)
        self.notifications = []
        self.channel = channel
        assert channel.addresses is not None
        self.client, self.host = channel.addresses
        self.requestHeaders = headers_of(fields)
        self.received_cookies = {}
        self.responseHeaders = headers_of({})
        self.cookies = []
        self.transport = channel.transport
        self.queued = False
        self._parsePOSTFormSubmission = channel.site._parsePOSTFormSubmission  # noqa: SLF001 - as stock
        self._adapterCache = {}
        self.content = BytesIO()
        if b"Cookie" in fields:
            self.parseCookies()
        return self

    @override
    def getTypeToCopyFor(self, perspective: object) -> bytes:
        return qual(server.Request).encode()  # by which twisted.web.distrib knows requests

    @override
    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if command == b"POST":  # maybe a form
            super().requestReceived(command, path, version)
            return
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        if _QUERY in path:
            self.path, _, query = path.partition(b"?")
            self.args = parse_qs(query, 1)
        else:
            self.path = path
            self.args = {}
        self.process()

    @override
    def process(self) -> None:
        site = self.site = self.channel.site
        fields = self.responseHeaders._rawHeaders  # noqa: SLF001 - see headers_of
        fields[b"Server"] = [server.version]
        second = int(time())
        if second != _Date.second:
            _Date.second, _Date.text = second, datetimeToString(second)
        fields[b"Date"] = [_Date.text]
        self.prepath = []
        path = self.path
        if path == b"*":
            self.postpath = [b""]
            self._handleStar()
            return
        self.postpath = path[1:].split(b"/")
        if _ESCAPE in path:
            self.postpath = list(map(unquote_to_bytes, self.postpath))
        try:
            if getattr(site.getResourceFor, "__func__", None) is _get_resource_for:
                self.sitepath: list[bytes] = []
                resource = find_resource(self, site.resource)
                if resource is None:  # a small file, which is sent
                    return
            else:
                resource = site.getResourceFor(self)
            if _IEncodingResource.providedBy(resource):
                encoder = resource.getEncoder(self)
                if encoder is not None:
                    self._encoder = encoder
            self.render(resource)
        except BaseException:
            self.processingFailed(Failure())

    @override
    def render(self, resrc: Any) -> None:
        try:
            render = resrc.render
            if getattr(render, "__func__", None) is _render:
                method = getattr(resrc, "render_" + self.method.decode("ascii"), None)
                body = render(self) if method is None else method(self)
            else:
                body = render(self)
        except UnsupportedMethod as error:
            super().render(_Rendered(resrc, error))
            return
        if body is server.NOT_DONE_YET:
            return
        if type(body) is bytes and self.method != b"HEAD":
            self.responseHeaders._rawHeaders[b"Content-Length"] = [b"%d" % len(body)]  # noqa: SLF001 - see headers_of
            self.write(body)
            self.finish()
        else:
            super().render(_Rendered(resrc, body))

    @override
    def setHeader(self, name: bytes | str, value: bytes | str) -> None:
        if type(name) is type(value) is bytes and b"\n" not in value and b"\r" not in value:
            self.responseHeaders._rawHeaders[canonical_names[name]] = [value]  # noqa: SLF001 - see headers_of
        else:
            self.responseHeaders.setRawHeaders(name, [value])

    @override
    def write(self, data: bytes) -> None:
        if (
            self.startedWriting
            or type(data) is not bytes  # maybe a mistake, which must come after the head
            or self.clientproto == b"HTTP/2"  # where the channel writes the head
            or self._encoder is not None
            or self._inFakeHead
            or self._disconnected
            or self.cookies
            or self.etag is not None
            or self.lastModified is not None
            or self.method == b"HEAD"
            or self.code in NO_BODY_CODES
        ):
            super().write(data)
            return
        self.startedWriting = 1
        fields = self.responseHeaders._rawHeaders  # noqa: SLF001 - see headers_of
        length = fields.get(b"Content-Length")
        if (
            not fields.get(b"Content-Type")
            and self.defaultContentType is not None
            and not (length and length[0] == b"0")
        ):
            fields[b"Content-Type"] = [self.defaultContentType]
        self.sentLength += len(data)
        if not length and self.clientproto == b"HTTP/1.1":
            fields[b"Transfer-Encoding"] = [b"chunked"]
            self.chunked = 1
            if data:
                data = b"%x\r\n%b\r\n" % (len(data), data)
        parts = [status_line(self.clientproto, self.code, self.code_message)]
        write_head(parts, fields)
        if data:
            parts.append(data)
        self.channel.write(b"".join(parts))

    @override
    def finish(self) -> None:
        if self._disconnected or self.finished or self._encoder is not None:
            super().finish()
            return
        if not self.startedWriting:
            self.write(b"")
        if self.chunked:
            self.channel.write(b"0\r\n\r\n")
        factory = self.channel.factory
        if factory is not None:
            factory.log(self)
        self.finished = 1
        if self.producer or self.notifications or self.content is None:
            self._cleanup()
            return
        self.channel.requestDone(self)
        del self.channel
        self.content.close()
        del self.content


class _Rendered:
    """A resource that was rendered already: gives that result first, as a value or an error."""

    def __init__(self, resource: Any, result: object) -> None:
        self._resource = resource
        self._results = [result]

    def __repr__(self) -> str:
        return repr(self._resource)

    def render(self, request: FastRequest) -> Any:
        if not self._results:
            return self._resource.render(request)
        result = self._results.pop()
        if isinstance(result, UnsupportedMethod):
            raise result
        return result
