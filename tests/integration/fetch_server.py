"""A web site in the test's own process, which records requests."""

from collections import Counter

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site


MB = 1_000_000


class Page(Resource):
    isLeaf = True

    def __init__(self, site):
        super().__init__()
        self.site = site

    def render(self, request):
        path = request.path.decode()
        self.site.hits[path] += 1
        self.site.requests.append(request)
        answer = self.site.answers.get(path)
        if answer is None:
            request.setResponseCode(404)
            return b"not here"
        return answer(request) if callable(answer) else answer


class Slowly:
    """Sends `body` in pieces as the test says; honours ranges."""

    def __init__(self, body, first=None):
        self.body = body
        self.first = first  # bytes sent at once to the first who asks; the rest never comes
        self.ranges = []

    def __call__(self, request):
        asked = request.getHeader(b"range")
        self.ranges.append(asked)
        request.setHeader(b"ETag", b'"v1"')
        body = self.body
        if asked is not None and request.getHeader(b"if-range") == b'"v1"':
            start = int(asked[6:-1])
            request.setResponseCode(206)
            where = b"bytes %d-%d/%d" % (start, len(body) - 1, len(body))
            request.setHeader(b"Content-Range", where)
            body = body[start:]
        if self.first is None:
            return body
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body[: self.first])
        request.notifyFinish().addErrback(lambda _: None)
        self.first = None
        return NOT_DONE_YET


class Together:
    """Answers `count` requests with `body`, once all of them wait.

    A client that asks for one after the other never gets an answer.
    """

    def __init__(self, count, body=b""):
        self.count = count
        self.body = body
        self.waiting = []

    def __call__(self, request):
        self.waiting.append(request)
        if len(self.waiting) == self.count:
            for each in self.waiting:
                each.write(self.body)
                each.finish()
        return NOT_DONE_YET


class Big:
    """Sends so many bytes without having them all."""

    def __init__(self, size):
        self.size = size

    def __call__(self, request):
        request.setHeader(b"Content-Length", b"%d" % self.size)
        producer = _Zeros(request, self.size)
        request.registerProducer(producer, False)
        return NOT_DONE_YET


class _Zeros:
    chunk = bytes(256 * 1024)

    def __init__(self, request, left):
        self.request, self.left = request, left

    def resumeProducing(self):
        piece = self.chunk[: self.left]
        self.left -= len(piece)
        self.request.write(piece)
        if not self.left:
            self.request.unregisterProducer()
            self.request.finish()

    def stopProducing(self):
        pass


class WebSite:
    """`answers` by path: bytes, or a function of the request; `hits` counts."""

    def __init__(self, test):
        from twisted.internet import reactor

        self.answers = {}
        self.hits = Counter()
        self.requests = []
        site = Site(Page(self))
        site.log = lambda _: None
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.port = port.getHost().port
        self.origin = f"http://127.0.0.1:{self.port}"
        test.addCleanup(port.stopListening)

    def url(self, path):
        return f"{self.origin}{path}"
