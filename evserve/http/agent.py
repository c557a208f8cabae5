"""The engine as an `IAgent`: what `treq.client.HTTPClient` and others are built on."""

from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from evserve.http.client import Client
from evserve.http.errors import FetchError
from evserve.http.messages import Headers
from evserve.http.request import Request
from evserve.http.response import Body
from evserve.http.url import parse_url


@implementer(IAgent)
@define(eq=False)
class Agent:
    """One request, one response, as `IAgent` has it; with `follow`, redirects are followed here.

    treq follows redirects itself unless it is told `allow_redirects=False`. Content-Encoding is
    always undone here, and a response says nothing of it any more.
    """

    _client: Client
    _follow: bool = False

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: WebHeaders | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See IAgent; fails with a FetchError."""
        try:
            request = Request(
                parse_url(uri.decode("utf-8", "surrogateescape")),
                method,
                _lines(headers),
                bodyProducer,
                follow=self._follow,
            )
            return self._begin(request)
        except FetchError as error:
            return fail(error)

    def _begin(self, request: Request) -> Deferred[IResponse]:
        result: Deferred[Any] = Deferred(lambda _: body.call.cancel(CancelledError()))
        body = Body(result, request)
        body.call = self._client.fetch(request, body)
        return result


def _lines(headers: WebHeaders | None) -> Headers:
    if headers is None:
        return Headers()
    return Headers([(name, value) for name, all_ in headers.getAllRawHeaders() for value in all_])
