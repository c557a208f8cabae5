"""The life of an event as a literal table: which move is allowed in which state.

The four states are those of beanstalkd's protocol.txt. An event on its way from one state to
another, whose move has not been committed yet, is RESERVED without an owner: to everybody else it
is taken, which is what an uncommitted event must look like.
"""

from enum import IntEnum
from typing import Final


class State(IntEnum):
    """Where an event is; the numbers are those in the store."""

    READY = 0
    RESERVED = 1
    DELAYED = 2
    BURIED = 3


class Move(IntEnum):
    """What can happen to an event."""

    PUT = 0
    POSTPONE = 1  # put or release with a delay
    RESERVE = 2
    DELETE = 3
    RELEASE = 4
    BURY = 5
    TOUCH = 6
    KICK = 7
    RETURN = 8  # the time to run or the delay is over, or the consumer has left


# `None` is an event that is not there: not yet, or no more.
MOVES: Final[dict[State | None, dict[Move, State | None]]] = {
    None: {
        Move.PUT: State.READY,
        Move.POSTPONE: State.DELAYED,
    },
    State.READY: {
        Move.RESERVE: State.RESERVED,
        Move.DELETE: None,
    },
    State.RESERVED: {
        Move.RELEASE: State.READY,
        Move.POSTPONE: State.DELAYED,
        Move.BURY: State.BURIED,
        Move.TOUCH: State.RESERVED,
        Move.RETURN: State.READY,
        Move.DELETE: None,
    },
    State.DELAYED: {
        Move.RESERVE: State.RESERVED,
        Move.KICK: State.READY,
        Move.RETURN: State.READY,
        Move.DELETE: None,
    },
    State.BURIED: {
        Move.RESERVE: State.RESERVED,
        Move.KICK: State.READY,
        Move.DELETE: None,
    },
}
