"""Greenlets run only when they are switched to: the order of the printed lines shows it.

`switch` pauses the function that calls it, at any depth of calls, and resumes another one where
that was paused. Its argument becomes the result of the other's own `switch` call. A greenlet that
ends returns to its parent; one that is never switched to again never continues.
"""

import sys


try:
    from greenlet import greenlet
except ImportError:
    print("greenlet_order: needs greenlet: pip install 'evserve[lab]'", file=sys.stderr)
    sys.exit(3)


def ping() -> str:
    """Begin, then alternate with `pong`."""
    print("1 ping begins")
    said = helper("a ball")
    print(f"4 ping is back, deep inside, with {said}")
    pong_greenlet.switch("a second ball")
    print("never printed: nothing switches to ping again")
    return "ping"


def helper(thing: str) -> str:
    """Switch from within a nested call, which a generator could not do."""
    print(f"2 ping throws {thing} and stops here")
    return str(pong_greenlet.switch(thing))


def pong(thing: str) -> str:
    """Alternate with `ping`."""
    print(f"3 pong begins with {thing}")
    thing = ping_greenlet.switch("the ball returned")
    print(f"5 pong is back with {thing}, and ends")
    return "what pong returned"


ping_greenlet = greenlet(ping)
pong_greenlet = greenlet(pong)


if __name__ == "__main__":
    result = ping_greenlet.switch()
    print(f"6 the main greenlet continues, with {result}")
    print(f"  ping is dead: {ping_greenlet.dead}, pong is dead: {pong_greenlet.dead}")
