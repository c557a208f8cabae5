"""A process that puts and handles events and writes down what the queue told it.

    python -m tests.chaos.worker NAME SEED LANES URL OPTIONS...

Each line of standard output is `SECONDS WHAT BODY ID ATTEMPTS`: a time of the machine's monotonic
clock, and what a lane asked for or was told about the event with that body; `ask`, which comes
before a put, has the delay in place of the id.

Lines of standard input are commands: `stop` (put nothing more), `quit`, `append BODY` and `take`
for events that no lane touches, and what is done to the network with `--proxy PORT...`: `freeze`,
`cut`, `refuse`, `mend`, `freeze-after BYTES`, `cut-after BYTES`. Of several ports, the proxy takes
the first that listens.
"""

import argparse
import os
import random
import sys
import time

import psycopg
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineOnlyReceiver

from evserve.events import NotReserved, QueueError, QueueFull, QueueUnavailable, open_queue
from tests.integration.lossy_proxy import LossyProxy


TYPES = ("chaos.a", "chaos.b")
IN_LINE = "chaos.line"
"""The type that no lane handles."""


def log(what, body, event_id="-", attempts=0):
    line = f"{time.monotonic():.6f} {what} {body} {event_id} {attempts}\n"
    os.write(1, line.encode())  # at once, because this process may be killed


class Worker:
    """The lanes of one process; each puts an event and handles one, again and again."""

    def __init__(self, reactor, queue, options):
        self.reactor, self.queue, self.options = reactor, queue, options
        self.putting = True
        self.quitting = False

    async def lane(self, number):
        chance = random.Random(f"{self.options.seed}.{self.options.name}.{number}")
        count = 0
        while not self.quitting:
            if self.putting:
                count += 1
                await self.put(f"{self.options.name}.{number}.{count}", chance)
            await self.consume(chance)
            await deferLater(self.reactor, self.options.pace * chance.random())

    async def put(self, body, chance):
        delay = chance.choice((0, 0, 0, 0.05))
        log("ask", body, delay)
        try:
            event_id = await self.queue.put(
                chance.choice(TYPES),
                body.encode() + b" " + os.urandom(self.options.size),
                priority=chance.randrange(self.options.priorities),
                delay=delay,
                ttr=self.options.ttr,
            )
        except QueueFull:
            log("refused", body)
        except QueueError as error:
            self.failed(error)
        else:
            log("put", body, event_id)

    async def consume(self, chance):
        try:
            if chance.random() < 0.2:
                events = await self.queue.reserve_many(TYPES, 3, timeout=0.2)
            else:
                event = await self.queue.reserve(TYPES, timeout=0.2)
                events = [] if event is None else [event]
        except QueueError as error:
            self.failed(error)
            return
        for event in events:
            await self.handle(event, chance)

    async def handle(self, event, chance):
        about = event.body.partition(b" ")[0].decode(), event.id, event.attempts
        log("reserved", *about)
        if event.timeouts:
            log("overran", *about)
        choice = chance.random()
        try:
            if choice < 0.1:
                await self.queue.retry(event, chance.choice((0, 0.05)))
                log("retried", *about)
                return
            if choice < 0.2:
                await self.queue.touch(event)
            await self.settle(event, about[0])
        except NotReserved:
            pass  # another worker has it, or had it
        except QueueError as error:
            self.failed(error)
        else:
            log("handled", *about)

    async def settle(self, event, body):
        if not self.options.effect:
            await self.queue.ack(event)
            return
        try:
            async with event.transaction() as connection:
                await connection.execute("INSERT INTO effect VALUES (%s)", [body])
        except psycopg.Error as error:  # a handler's own mishap, after which its event is retried
            self.failed(error)
            await self.queue.retry(event)
            raise QueueUnavailable("the handler failed") from error

    async def append(self, body):
        """Put an event of which the order matters."""
        log("ask", body, 0)
        log("put", body, await self.queue.put(IN_LINE, body.encode()))

    async def take(self):
        """Handle the next of these events."""
        event = await self.queue.reserve([IN_LINE])
        log("reserved", event.body.decode(), event.id, event.attempts)
        await self.queue.ack(event)

    def failed(self, error):
        """Write down a failure; an unknown outcome leaves no other trace."""
        print(f"{type(error).__name__}: {error!s:.200}", file=sys.stderr, flush=True)


class Commands(LineOnlyReceiver):
    delimiter = b"\n"

    def __init__(self, worker, proxy):
        self.worker, self.proxy = worker, proxy
        self.quit = Deferred()

    def lineReceived(self, line):
        word, *arguments = line.decode().split()
        if word == "stop":
            self.worker.putting = False
        elif word == "quit":
            self.worker.quitting = True
            self.quit.callback(None)
        elif word in ("append", "take"):
            ensureDeferred(getattr(self.worker, word)(*arguments))
        elif word.endswith("-after"):
            what_then = getattr(self.proxy, word.removesuffix("-after"))
            self.proxy.after_replies(int(arguments[0]), what_then)
        else:
            getattr(self.proxy, word)()

    def connectionLost(self, reason):
        if not self.quit.called:  # the test has died
            os._exit(1)


async def main(reactor, arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("seed")
    parser.add_argument("lanes", type=int)
    parser.add_argument("url", help="with PROXY for the port of the proxy")
    parser.add_argument("--proxy", type=int, nargs="+", metavar="PORT")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between two turns")
    parser.add_argument("--size", type=int, default=20, help="bytes of a body at least")
    parser.add_argument("--priorities", type=int, default=10, help="how many there are")
    parser.add_argument("--ttr", type=int, default=5, help="seconds")
    parser.add_argument("--effect", action="store_true", help="write a row in the transaction")
    options = parser.parse_args(arguments)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    proxy = await LossyProxy(*options.proxy).listen() if options.proxy else None
    url = options.url.replace("PROXY", str(proxy.port)) if proxy else options.url
    queue = open_queue(url, reactor)
    worker = Worker(reactor, queue, options)
    commands = Commands(worker, proxy)
    StandardIO(commands, stdout=os.dup(2))
    lanes = [ensureDeferred(worker.lane(number)) for number in range(options.lanes)]
    await gatherResults([*lanes, commands.quit], consumeErrors=True)
    await queue.close()


if __name__ == "__main__":
    react(lambda reactor: ensureDeferred(main(reactor, sys.argv[1:])))
