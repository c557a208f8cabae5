"""What a run does to a server."""

from attrs import field, frozen


DEFAULT_SECONDS = 5.0


@frozen
class Plan:
    """A run. Without `rate` it is a closed loop: each connection keeps `depth` messages in flight.

    connect: a Twisted client endpoint.  size: bytes per message.  rate: messages per second over
    all connections.  seconds, count: when to end, whichever comes first.  warm_up: seconds of load
    before the measurement.  idle: additional connections that send nothing.  line, expected: lines
    to send and to receive instead of an echo, without line breaks.  pid: the server's process.
    timeout: seconds without an answer before the run gives up.  ready_within: seconds in which all
    connections, idle ones included, must open and get one answer each; otherwise nothing is
    measured and `Report.unready` says why. None: failed connections are only counted.
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
