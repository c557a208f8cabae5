"""Any `IAgent` as a client: the fetcher's politeness on another HTTP client."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import IResponse
from typing_extensions import override

from evserve.http.connect import explain_connecting
from evserve.http.errors import Cancelled, ConnectionLost, TotalTimeout, TruncatedBody
from evserve.http.headers import Head, Headers
from evserve.http.proxy import Proxy
from evserve.http.request import Receiver, Request
from evserve.http.settings import Timeouts
from evserve.http.url import Origin


@define(eq=False)
class AgentClient:
    """A client on an IAgent. Of the time-outs it applies only the total one."""

    _agent: Any
    _clock: IReactorTime
    _user_agent: bytes
    _exchanges: "set[AgentExchange]" = field(factory=set, init=False)

    def fetch(self, request: Request, receiver: Receiver) -> "AgentExchange":
        headers = WebHeaders({b"User-Agent": [self._user_agent]})
        for name, value in request.headers:
            headers.addRawHeader(name, value)
        exchange = AgentExchange(request, receiver, self._exchanges.discard)
        self._exchanges.add(exchange)
        total = (request.timeouts or Timeouts()).total
        exchange.timer = self._clock.callLater(
            total, exchange.cancel, TotalTimeout(f"not complete after {total:g} s")
        )
        exchange.response = self._agent.request(
            request.method, str(request.url).encode("ascii"), headers, request.body
        )
        exchange.response.addCallbacks(exchange.started, exchange.failed)
        return exchange

    def proxy_for(self, origin: Origin) -> Proxy | None:
        return None  # if there is one, only the agent knows it

    def close(self) -> None:
        # The agent's idle connections are its owner's to close.
        for exchange in tuple(self._exchanges):
            exchange.cancel()


class AgentExchange(Protocol):
    """One request to an agent, and the protocol that its response's body is delivered to."""

    transport: Any

    def __init__(
        self, request: Request, receiver: Receiver, on_end: "Callable[[AgentExchange], None]"
    ) -> None:
        self._request = request
        self._receiver = receiver
        self._on_end = on_end
        self._has_ended = False
        self.timer: IDelayedCall | None = None
        self.response: Deferred[IResponse] | None = None

    def pause(self) -> None:
        if self.transport is not None:
            self.transport.pauseProducing()

    def resume(self) -> None:
        if self.transport is not None:
            self.transport.resumeProducing()

    def cancel(self, error: Exception | None = None) -> None:
        self._end(error or Cancelled("cancelled"))
        if self.transport is not None:
            self.transport.loseConnection()
        elif self.response is not None:
            self.response.cancel()

    def started(self, response: IResponse) -> None:
        """Take the agent's response."""
        lines = [
            (name, value)
            for name, values in response.headers.getAllRawHeaders()
            for value in values
        ]
        length = response.length if isinstance(response.length, int) else None
        head = Head(
            response.code, response.phrase or b"", "1.1", Headers(lines), length, encoding=None
        )
        try:
            self._receiver.started(head, self._request.url)
        except Exception as error:
            self._end(error)
        response.deliverBody(self)

    def failed(self, failure: Failure) -> None:
        """Take the agent's error."""
        error = failure.value
        if isinstance(error, ResponseFailed) and error.reasons:
            self._end(ConnectionLost(str(error.reasons[0].value)))
        else:
            self._end(explain_connecting(failure, self._request.url.origin))

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._has_ended:
            return
        try:
            self._receiver.received(data)
        except Exception as error:
            self.cancel(error)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone):
            self._end(None)
        else:
            self._end(TruncatedBody("the connection ended before the body did"))

    def _end(self, error: Exception | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self._on_end(self)
        self._receiver.finished(error)
