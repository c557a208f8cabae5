"""Greenlets run when they are switched to, and not before: the order of the lines is the lesson.

`switch` stops the function that calls it in the middle, at any depth of calls, and goes on with
the other where that had stopped. Its argument arrives as the result of the other's own `switch`.
A greenlet that ends goes back to its parent; one that is never switched to never goes on.
"""

import sys


try:
    from greenlet import greenlet
except ImportError:
    print("greenlet_order: needs greenlet: pip install 'evserve[lab]'", file=sys.stderr)
    sys.exit(3)


def ping() -> str:
    """Begin, and take turns with `pong`."""
    print("1 ping begins")
    said = helper("a ball")
    print(f"4 ping is back, deep inside, with {said}")
    pong_greenlet.switch("a second ball")
    print("never printed: nobody switches to ping again")
    return "ping"


def helper(thing: str) -> str:
    """Switch away from within a call: a generator could not, a stack of its own can."""
    print(f"2 ping throws {thing} and stops here")
    return str(pong_greenlet.switch(thing))


def pong(thing: str) -> str:
    """Take turns with `ping`."""
    print(f"3 pong begins with {thing}")
    thing = ping_greenlet.switch("the ball returned")
    print(f"5 pong is back with {thing}, and ends")
    return "what pong returned"


ping_greenlet = greenlet(ping)
pong_greenlet = greenlet(pong)


if __name__ == "__main__":
    result = ping_greenlet.switch()
    print(f"6 the main greenlet goes on, with {result}")
    print(f"  ping is dead: {ping_greenlet.dead}, pong is dead: {pong_greenlet.dead}")
