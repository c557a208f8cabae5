"""What to do to a server."""

from attrs import field, frozen


DEFAULT_SECONDS = 5.0


@frozen
class Plan:
    """A run. Without `rate` it is a closed loop: each connection keeps `depth` messages in flight.

    connect: a Twisted client endpoint.  size: of a message, in bytes.  rate: messages a second,
    over all connections.  seconds, count: when to end, whichever comes first; `warm_up` seconds
    before that are not measured.  idle: further connections that say nothing.  line, expected:
    lines to send and to get instead of an echo, without line breaks.  pid: the server's process.
    timeout: seconds without an answer after which it is given up.  ready_within: seconds in which
    all connections, the idle too, must open and have the answer to one message each; else nothing
    is measured, and `Report.unready` says why. None: those that cannot connect are only counted.
    """

    connect: str
    connections: int = 1
    size: int = 64
    depth: int = 1
    rate: float | None = None
    seconds: float | None = field(default=DEFAULT_SECONDS, kw_only=True)
    count: int | None = field(default=None, kw_only=True)
    warm_up: float = field(default=0.0, kw_only=True)
    idle: int = field(default=0, kw_only=True)
    line: bytes | None = field(default=None, kw_only=True)
    expected: bytes | None = field(default=None, kw_only=True)
    pid: int | None = field(default=None, kw_only=True)
    timeout: float = field(default=5.0, kw_only=True)
    ready_within: float | None = field(default=None, kw_only=True)
