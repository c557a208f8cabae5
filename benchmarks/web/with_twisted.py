"""twisted.web's Site, as it is and as `evserve.web` makes it fast."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.logfile import LogFile
from twisted.python.reflect import namedAny

from benchmarks.reactor.servers import INSTALL
from benchmarks.web.pages import HELLO, MEMORY
from benchmarks.web.serve import announce
from evserve.web import fast


def serve(kind: str, reactor_name: str, *, folder: Path, log: str | None) -> None:
    """Serve on one of Twisted's reactors; the log is twistd's.

    kind: `stock`, `fast`, or `fast, own Request` for a site whose requests are of a subclass of
    Twisted's, as applications write them.
    """
    namedAny(INSTALL[reactor_name])()
    from twisted.internet import reactor as installed
    from twisted.web.server import Request, Site

    class OwnRequest(Request):
        pass

    reactor: Any = installed
    request = OwnRequest if kind == "fast, own Request" else Request
    site: Any = Site(_pages(reactor, folder), request)
    if log is None:
        site.log = lambda _request: None
    else:
        observers = [textFileLogObserver(LogFile.fromFullPath(log))]
        globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)
    if kind != "stock":
        fast(site)
    port = reactor.listenTCP(0, site, backlog=4096, interface="127.0.0.1")
    announce(port.getHost().port)
    reactor.run()


def _pages(reactor: Any, folder: Path) -> Any:
    from twisted.web.resource import Resource
    from twisted.web.static import File
    from twisted.web.wsgi import WSGIResource

    class Page(Resource):
        isLeaf = True
        content: bytes

        def render_GET(self, request: Any) -> bytes:  # Twisted's name
            return self.content

    class Length(Resource):
        isLeaf = True

        def render_POST(self, request: Any) -> bytes:  # Twisted's name
            return b"%d" % len(request.content.read())

    root: Any = Resource()
    new_page: Any = Page
    new_length: Any = Length
    for path, content in MEMORY.items():
        page = new_page()
        page.content = content
        root.putChild(path[1:].encode(), page)
    root.putChild(b"length", new_length())
    root.putChild(b"files", File(str(folder)))
    root.putChild(b"wsgi", WSGIResource(reactor, reactor.getThreadPool(), _hello))
    if find_spec("klein") is not None:
        from klein import Klein

        app = Klein()
        app.route("/")(lambda _request: HELLO)
        root.putChild(b"klein", app.resource())
    return root


def _hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(HELLO)))])
    return [HELLO]
