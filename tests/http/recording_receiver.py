"""A receiver that keeps a response."""

from attrs import define, field
from twisted.internet.defer import Deferred

from evserve.http.request import Request
from evserve.http.url import parse_url


@define(eq=False)
class RecordingReceiver:
    """`ended` fires with this object at the end of the call, failed or not."""

    head: object = None
    url: object = None
    pieces: list = field(factory=list)
    error: Exception | None = None
    is_over: bool = False
    ended: Deferred = field(factory=Deferred)
    call: object = None
    on_piece: object = None

    @property
    def body(self):
        return b"".join(self.pieces)

    @property
    def outcome(self):
        """The body, or the name of the error."""
        return self.body if self.error is None else type(self.error).__name__

    def started(self, head, url):
        self.head, self.url = head, url

    def received(self, data):
        self.pieces.append(data)
        if self.on_piece is not None:
            self.on_piece(data)

    def finished(self, error):
        assert not self.is_over
        self.error, self.is_over = error, True
        self.ended.callback(self)


def fetch(client, url, on_piece=None, **options):
    """Start a request; return the receiver of its response."""
    receiver = RecordingReceiver(on_piece=on_piece)
    receiver.call = client.fetch(Request(parse_url(url), **options), receiver)
    return receiver
