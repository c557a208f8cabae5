"""What can go wrong with a queue, in words every engine shares.

The message of each is one line, fit for standard error.
"""

# ruff: noqa: N818 - as Twisted's own do (ConnectionLost, TimedOut), a name says what happened.


class QueueError(Exception):
    """Something a queue was asked for did not happen, or nobody knows whether it did."""


class BadQueueURL(QueueError):
    """The URL names no engine, or not what the engine needs."""


class BadEvent(QueueError):
    """The event can never be taken: its type, numbers or size are not allowed.

    Trying again does not help.
    """


class QueueFull(QueueError):
    """The queue takes no events now: it is out of room, or draining before it stops.

    The event was not stored; the producer may try again later.
    """


class QueueUnavailable(QueueError):
    """There is no connection, or it was lost before the reply.

    A call that had been sent may or may not have happened: a `put` may be stored, an `ack` may
    have been heeded. The engine repeats nothing by itself, because it cannot know. Of an event
    that was reserved, at-least-once delivery decides: either the acknowledgement arrived, or the
    event is ready again and comes back with `attempts` one higher.
    """


class NotReserved(QueueError):
    """The event is not, or no longer, reserved by this queue object.

    It was settled before, its TTR ran out, or the connection that held it was lost. Whoever
    holds it now decides; the caller changed nothing.
    """


class QueueClosed(QueueError):
    """`close` was called, before the call or while it waited."""


class Unsupported(QueueError):
    """This engine, or the server behind it, lacks what was asked for (see Capability)."""
