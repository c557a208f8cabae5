"""The errors of a queue, the same for every engine.

The message of each is one line, fit for standard error.
"""

# ruff: noqa: N818 - as Twisted's own do (ConnectionLost, TimedOut), a name says what happened.


class QueueError(Exception):
    """A call to a queue failed, or its outcome is unknown."""


class BadQueueURL(QueueError):
    """The URL names no engine, or lacks what the engine needs."""


class BadEvent(QueueError):
    """The event is invalid: its type, numbers or size are not allowed.

    Trying again does not help.
    """


class QueueFull(QueueError):
    """The queue accepts no events now: it is out of room, or draining before it stops.

    The event was not stored; the producer may try again later. A call about a reserved event
    changed nothing: the event is still reserved, and the call may be repeated.
    """


class QueueUnavailable(QueueError):
    """There is no connection, or it was lost before the reply.

    A call that was sent may or may not have taken effect: a `put` may be stored, an event may be
    acknowledged. The engine repeats nothing by itself, because it cannot know. For a reserved
    event, at-least-once delivery decides: either the acknowledgement arrived, or the event is
    ready again and comes back with `attempts` one higher.
    """


class NotReserved(QueueError):
    """The event is not, or no longer, reserved by this queue object.

    It was settled before, its TTR ran out, or the connection that held it was lost. The call
    changed nothing; another consumer may hold the event now.
    """


class QueueClosed(QueueError):
    """`close` was called, before the call or while it waited."""


class Unsupported(QueueError):
    """This engine, or the server behind it, lacks the feature (see Capability)."""
