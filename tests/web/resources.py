"""Resources that answer in every way that twisted.web offers, and keep what they saw."""

import os

from attrs import define, field
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory
from twisted.web.static import File
from zope.interface import implementer


PIECE = 8192  # bytes


@define(eq=False)
class Seen:
    """The requests that resources saw, and what `notifyFinish` said of each, by its number."""

    requests: list = field(factory=list)
    ends: list = field(factory=list)


def as_seen(request):
    """Return everything a resource can learn from a request."""
    position = request.content.tell()
    body = request.content.read()
    request.content.seek(position)
    return {
        "method": request.method,
        "uri": request.uri,
        "path": request.path,
        "args": list(request.args.items()),
        "headers": [
            (name, value)
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        ],
        "body": body,
        "clientproto": request.clientproto,
        "cookies": list(request.received_cookies.items()),
        "prepath": request.prepath,
        "postpath": request.postpath,
        "host": request.getRequestHostname(),
        "url": request.prePathURL(),
        "peer": request.getClientAddress(),
        "secure": request.isSecure(),
    }


class Root(Resource):
    """Its children by their names; every other path is an echo."""

    def __init__(self, clock, seen):
        super().__init__()
        self.clock, self.seen = clock, seen

    def getChild(self, path, request):
        return Answer(self, path)


@define(eq=False)
class Answer(Resource):
    """Answers as the first part of the path says."""

    isLeaf = True
    root: Root
    name: bytes

    def __attrs_pre_init__(self):
        super().__init__()

    def render(self, request):
        seen = self.root.seen
        number = len(seen.requests)
        seen.requests.append(as_seen(request))
        request.notifyFinish().addBoth(
            lambda end: seen.ends.append((number, end if end is None else end.type.__name__))
        )
        return getattr(self, f"do_{self.name.decode('latin-1')}", self.do_echo)(request)

    def do_echo(self, request):
        return b"%s %s %s\n%s" % (
            request.method,
            request.uri,
            request.clientproto,
            request.content.read(),
        )

    def do_code(self, request):
        """/code?418 with that status."""
        code = int(request.uri.partition(b"?")[2])
        request.setResponseCode(code)
        return b"" if code in (204, 304) else b"status"

    def do_reason(self, request):
        request.setResponseCode(299, b"Quite Fine")
        return b"fine"

    def do_broken_reason(self, request):
        request.setResponseCode(200, b"OK\r\nX-Injected: 1")
        return b"reason"

    def do_broken_header(self, request):
        request.setHeader(b"x-a", b"1\r\nX-Injected: 1\r\n\r\nbody")
        request.setHeader(b"location", "/\u00e9")
        return b"header"

    def do_empty(self, request):
        return b""

    def do_plain(self, request):
        request.setHeader("content-type", "text/plain; charset=utf-8")
        request.setHeader(b"x-lines", b"one\r\ntwo: 2\n three")
        request.responseHeaders.addRawHeader("x-more", "1")
        request.responseHeaders.addRawHeader("X-MORE", "2")
        request.addCookie("a", "1")
        request.addCookie(b"b", b"2; 3", path="/", httpOnly=True, sameSite="lax")
        return b"plain"

    def do_untyped(self, request):
        request.defaultContentType = None
        return b"untyped"

    def do_chunks(self, request):
        """Written in pieces, without a length."""
        for piece in (b"first,", b"", b"second,", b"x" * 300):
            request.write(piece)
        request.finish()
        return NOT_DONE_YET

    def do_pieces(self, request):
        """Written in pieces, of a length that is known."""
        request.setHeader(b"content-length", b"10")
        request.write(b"01234")
        request.write(b"56789")
        request.finish()
        return NOT_DONE_YET

    def do_unwritten(self, request):
        request.finish()
        return NOT_DONE_YET

    def do_later(self, request):
        """Answered after two seconds."""

        def answer():
            request.write(b"late")
            request.finish()

        if self.name == b"later":
            call = self.root.clock.callLater(2, answer)
            request.notifyFinish().addErrback(lambda _: call.cancel())
        return NOT_DONE_YET

    def do_drip(self, request):
        """A piece a second, three times."""

        def write(left):
            request.write(b"drip%d" % left)
            if left:
                self.later = self.root.clock.callLater(1, write, left - 1)
            else:
                request.finish()

        request.notifyFinish().addErrback(lambda _: self.later.cancel())
        write(2)
        return NOT_DONE_YET

    def do_never(self, request):
        return NOT_DONE_YET

    def do_large(self, request):
        return b"large" * 100_000

    def do_push(self, request):
        Push(request, 40)
        return NOT_DONE_YET

    def do_pull(self, request):
        Pull(request, 5)
        return NOT_DONE_YET

    def do_close(self, request):
        request.setHeader(b"connection", b"close")
        return b"closing"

    def do_lose(self, request):
        """Gives up in the middle of the answer."""
        request.setHeader(b"content-length", b"100")
        request.write(b"only this")
        request.loseConnection()
        return NOT_DONE_YET

    def do_abort(self, request):
        request.write(b"nothing")
        request.transport.abortConnection()
        return NOT_DONE_YET

    def do_error(self, request):
        raise ValueError("an error of the resource")

    def do_midway(self, request):
        request.write(b"begun")
        raise ValueError("an error in the middle")

    def do_tagged(self, request):
        if request.setETag(b'"v1"'):
            return b""
        request.setLastModified(1_000_000_000)
        return b"tagged"

    def do_redirect(self, request):
        request.redirect(b"/elsewhere")
        return b"moved"

    def do_session(self, request):
        return request.getHeader("x-name") or b"none"

    def do_continues(self, request):
        request.channel._send100Continue()
        return b"continued"


class Zipped(Root):
    """Its answers are compressed, however deep they are."""

    isLeaf = True

    def render(self, request):
        return Answer(self, request.postpath[0]).render(request)


class Getter(Resource):
    """Knows GET and POST only."""

    isLeaf = True

    def render_GET(self, request):
        return b"got"

    def render_POST(self, request):
        return request.content.read().upper()


@implementer(IPushProducer)
@define(eq=False)
class Push:
    """Writes a PIECE at a time for as long as it may."""

    request: object
    left: int
    paused: bool = True

    def __attrs_post_init__(self):
        self.request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self):
        self.paused = False
        while self.left and not self.paused:
            self.left -= 1
            self.request.write(b"p" * PIECE)
        if not self.left and not self.paused:
            self.paused = True
            self.request.unregisterProducer()
            self.request.finish()

    def pauseProducing(self):
        self.paused = True

    def stopProducing(self):
        self.left, self.paused = 0, True


@implementer(IPullProducer)
@define(eq=False)
class Pull:
    """Writes a piece each time it is asked."""

    request: object
    left: int

    def __attrs_post_init__(self):
        self.request.registerProducer(self, False)

    def resumeProducing(self):
        self.left -= 1
        self.request.write(b"pull%d" % self.left)
        if not self.left:
            self.request.unregisterProducer()
            self.request.finish()

    def stopProducing(self):
        self.left = 0


def make_files(folder):
    """Write the files that sites serve, all of the same age."""
    (folder / "indexed").mkdir(parents=True)
    for name, data in {
        "small.txt": b"small file\n",
        "empty": b"",
        "large.bin": bytes(range(200)) * 1000,
        "a b\u00e9.html": b"<p>",
        "indexed/index.html": b"<p>index",
    }.items():
        (folder / name).write_bytes(data)
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))


def make_root(clock, seen, folder):
    """Return the resource of a site, with the files of a folder at /files."""
    root = Root(clock, seen)
    root.putChild(b"getter", Getter())
    root.putChild(b"files", File(str(folder)))
    root.putChild(b"gzip", EncodingResourceWrapper(Zipped(clock, seen), [GzipEncoderFactory()]))
    return root
