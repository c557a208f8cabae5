"""The HTTP side: from requests to pages, with the headers that keep browsers honest."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from attrs import define
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from evserve.host.admin.answer import Answer, AnswerTo, plain
from evserve.host.admin.hosts import is_own_host


_METHODS = (b"GET", b"HEAD")
_HEADERS = {
    "Allow": ", ".join(method.decode() for method in _METHODS),
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "evserve",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@define(eq=False, slots=False)
class AdminResource(Resource):
    """Answers every request with one of `pages`, by its path."""

    pages: Mapping[str, AnswerTo]

    isLeaf = True

    def __attrs_pre_init__(self) -> None:
        Resource.__init__(self)

    def render(self, request: Request) -> bytes:
        """Answer (twisted.web.resource.IResource)."""
        answer = self._answer(request)
        request.setResponseCode(answer.status, answer.status.phrase.encode())
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        request.setHeader("Content-Security-Policy", answer.policy)
        request.setHeader("Content-Type", answer.content_type)
        request.setHeader("Content-Length", str(len(answer.body)))
        return b"" if request.method == b"HEAD" else answer.body

    def _answer(self, request: Request) -> Answer:
        hosts = request.requestHeaders.getRawHeaders("host", [])
        if not is_own_host(hosts, getattr(request.getHost(), "host", None)):
            return plain(
                "this name is not mine: use localhost or the address",
                HTTPStatus.MISDIRECTED_REQUEST,
            )
        if request.method not in _METHODS:
            return plain("GET and HEAD only", HTTPStatus.METHOD_NOT_ALLOWED)
        page = self.pages.get(request.path.decode("utf-8", "replace"))
        if page is None:
            return plain(f"not found; there are {' '.join(self.pages)}", HTTPStatus.NOT_FOUND)
        return page(",".join(request.requestHeaders.getRawHeaders("accept", [])))


class AdminSite(Site):
    """An HTTP server without a line in the log for each request: the page asks every second."""

    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Leave it out."""


def admin_site(reactor: Any, pages: Mapping[str, AnswerTo]) -> Site:
    """Return the protocol factory."""
    site: Any = AdminSite  # its constructor has no annotations
    made: Site = site(AdminResource(pages), reactor=reactor)
    return made
