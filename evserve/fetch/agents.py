"""Any `IAgent` as an engine: the fetcher's manners on somebody else's HTTP."""

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import IAgent, IResponse

from evserve.fetch.interfaces import Engine
from evserve.http.errors import Cancelled, ConnectionLost, TotalTimeout, TruncatedBody
from evserve.http.messages import Head, Headers
from evserve.http.proxies import Proxy
from evserve.http.reasons import explain_connecting
from evserve.http.request import Receiver, Request
from evserve.http.settings import Timeouts
from evserve.http.url import Origin


def as_engine(agent: Any, clock: IReactorTime, user_agent: str) -> Engine:
    """Return an engine over `agent`, which may be one already."""
    if IAgent.providedBy(agent):
        return AgentEngine(agent, clock, user_agent.encode())
    engine: Engine = agent
    return engine


@define(eq=False)
class AgentEngine:
    """Engine over an IAgent; of the time-outs it knows the total one only."""

    _agent: Any
    _clock: IReactorTime
    _user_agent: bytes
    _exchanges: "set[AgentExchange]" = field(factory=set, init=False)

    def fetch(self, request: Request, receiver: Receiver) -> "AgentExchange":
        """See Engine."""
        headers = WebHeaders({b"User-Agent": [self._user_agent]})
        for name, value in request.headers:
            headers.addRawHeader(name, value)
        exchange = AgentExchange(request, receiver, self._exchanges.discard)
        self._exchanges.add(exchange)
        total = (request.timeouts or Timeouts()).total
        exchange.timer = self._clock.callLater(
            total, exchange.cancel, TotalTimeout(f"not complete after {total:g} s")
        )
        exchange.asking = self._agent.request(
            request.method, str(request.url).encode("ascii"), headers, request.body
        )
        exchange.asking.addCallbacks(exchange.answered, exchange.failed)
        return exchange

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """See Engine; if there is one, only the agent knows it."""
        return None

    def close(self) -> None:
        """See Engine; connections that the agent keeps are its owner's to close."""
        for exchange in tuple(self._exchanges):
            exchange.cancel()


class AgentExchange(Protocol):
    """One request to an agent; as a protocol it takes the body."""

    transport: Any

    def __init__(self, request: Request, receiver: Receiver, over: Any) -> None:
        self._request = request
        self._receiver = receiver
        self._over = over
        self._is_over = False
        self.timer: IDelayedCall | None = None
        self.asking: Deferred[IResponse] | None = None

    def pause(self) -> None:
        """See Exchange."""
        if self.transport is not None:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """See Exchange."""
        if self.transport is not None:
            self.transport.resumeProducing()

    def cancel(self, error: Exception | None = None) -> None:
        """See Exchange."""
        self._finish(error or Cancelled("given up"))
        if self.transport is not None:
            self.transport.loseConnection()
        elif self.asking is not None:
            self.asking.cancel()

    def answered(self, response: IResponse) -> None:
        """The agent has a response."""
        lines = [
            (name, value) for name, all_ in response.headers.getAllRawHeaders() for value in all_
        ]
        length = response.length if isinstance(response.length, int) else None
        head = Head(
            response.code, response.phrase or b"", "1.1", Headers(lines), length, encoding=None
        )
        try:
            self._receiver.started(head, self._request.url)
        except Exception as error:
            self._finish(error)
        response.deliverBody(self)

    def failed(self, failure: Failure) -> None:
        """The agent has none."""
        error = failure.value
        if isinstance(error, ResponseFailed) and error.reasons:
            self._finish(ConnectionLost(str(error.reasons[0].value)))
        else:
            self._finish(explain_connecting(failure, self._request.url.origin))

    def dataReceived(self, data: bytes) -> None:
        """Take a part of the body."""
        if self._is_over:
            return
        try:
            self._receiver.received(data)
        except Exception as error:
            self.cancel(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is at its end."""
        if reason.check(ResponseDone):
            self._finish(None)
        else:
            self._finish(TruncatedBody("the connection ended before the body did"))

    def _finish(self, error: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self._over(self)
        self._receiver.finished(error)
