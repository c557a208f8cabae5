"""What a caller asks for."""

from typing import Any, Protocol

from attrs import frozen

from evserve.http.auth import Auth
from evserve.http.messages import IDEMPOTENT, Head, Headers
from evserve.http.settings import Timeouts
from evserve.http.url import URL


_NO_HEADERS = Headers()


@frozen
class Request:
    """One resource, wanted; what is not said here is as the client's settings say."""

    url: URL
    method: bytes = b"GET"
    headers: Headers = _NO_HEADERS  # Host, User-Agent, Accept... are added unless they are here
    body: Any = None  # bytes or an IBodyProducer
    auth: Auth | None = None
    follow: bool = True  # redirects
    decode: bool = True  # undo Content-Encoding, and ask for what can be undone
    timeouts: Timeouts | None = None

    @property
    def is_resendable(self) -> bool:
        """Whether it can be sent twice: a producer's body is there only once."""
        return self.body is None or isinstance(self.body, bytes)

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once (RFC 9110, 9.2.2)."""
        return self.method in IDEMPOTENT and self.is_resendable


class Receiver(Protocol):
    """Who wants the response. `finished` is always called, once, and last."""

    def started(self, head: Head, url: URL) -> None:
        """Take the final response's head, and the URL that it came from."""

    def received(self, data: bytes) -> None:
        """Take a part of the body, decompressed; an exception here ends the call."""

    def finished(self, error: Exception | None) -> None:
        """The body is complete, or there was `error`: nearly always a FetchError."""
