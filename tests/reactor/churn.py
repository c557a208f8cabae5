"""Opens and closes connections sequentially, and measures what that leaves behind.

`python -m tests.reactor.churn [COUNT]` does it 1,000,000 times, which takes minutes.
"""

import gc
import sys
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol

from evserve.reactor import new_reactor
from tests.reactor.connections import listen, turn


class Once(Protocol):
    """Sends a byte, and closes when it comes back."""

    def connectionMade(self):
        self.transport.write(b"x")

    def dataReceived(self, data):
        self.transport.loseConnection()

    def connectionLost(self, reason):
        self.factory.next_one()


class Back(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)


class Churn(ClientFactory):
    """Connects again and again; `done` fires after `count` connections."""

    noisy = False
    protocol = Once

    def __init__(self, reactor, port, count):
        self.connect = partial(reactor.connectTCP, "127.0.0.1", port.getHost().port, self)
        self.count = count
        self.done = Deferred()
        self.connect()

    def next_one(self):
        self.count -= 1
        if self.count:
            self.connect()
        else:
            self.done.callback(None)


async def churn(reactor, port, count):
    """Open and close `count` connections, and wait until the last of them have ended."""
    await Churn(reactor, port, count).done
    for _ in range(200):  # turns: a busy machine takes its time for one
        if not reactor.streams:
            break
        await turn(reactor, 0.005)
    for _ in range(5):
        await turn(reactor, 0.005)


def garbage():
    """Return the objects that only the garbage collector frees."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def resident():
    """Return this process's memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def measure(reactor, count):
    """Print what `count` connections leave behind."""
    port = listen(reactor, Back)
    await churn(reactor, port, 10_000)
    garbage()
    before, open_before = resident(), descriptors()
    gc.disable()
    await churn(reactor, port, count)
    grown, more = (resident() - before) / 1e6, descriptors() - open_before
    print(f"{count:,} connections: {grown:.1f} MB more memory, {more} more descriptors,")
    print(f"{len(garbage())} objects that only the collector frees")


def main(count):
    reactor = new_reactor()

    def start():
        deferred = Deferred.fromCoroutine(measure(reactor, count))
        deferred.addErrback(lambda failure: failure.printTraceback())
        deferred.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "")) if sys.argv[1:] else 1_000_000)
