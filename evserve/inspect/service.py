"""`twistd -n evserve events`: opens the queue, runs a verb, and ends the process."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from attrs import define, field
from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from twisted.python import usage
from typing_extensions import override

from evserve.events import EventQueue, QueueError, QueueURL, State, open_queue
from evserve.inspect.move import Move, MoveFailed
from evserve.inspect.options import Options
from evserve.inspect.output import Column, Output, Record, number_column
from evserve.inspect.verbs import VERBS, counted
from evserve.interfaces import IHost
from evserve.oneshot import OneShotService
from evserve.progress import Bar


__all__ = ["Options", "makeService"]

_REFRESH = 0.2
"""Seconds between two drawings of the progress bar."""


def makeService(options: Options, host: IHost) -> IService:
    """Return the job; raises UsageError for a mistake of the user."""
    # The standard streams are taken now: twistd replaces them by its log when it starts.
    output = Output(sys.stdout, bool(options["json"]))
    if options["verb"] == "move":
        source = _open(options["from"], host)
        target = _open(options["to"], host, may_make=True)
        return MoveService(host, options, output, source, target, sys.stderr)
    question = None
    if options["verb"] == "delete" and options["type"] and not options["yes"]:
        if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
            raise usage.UsageError("delete --type: removes every event of the type (add --yes)")
        question = f"delete all events of {options['type']} that are not reserved? [y/N] "
    queue = _open(options["queue"], host)
    return VerbService(host, options, output, queue, sys.stdin, sys.stderr, question)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _open(url: str, host: IHost, *, may_make: bool = False) -> EventQueue:
    """Open a queue; raises UsageError.

    may_make: whether a file that is not there yet is made.
    """
    try:
        parsed = QueueURL.parse(url)
        if parsed.scheme == "memory":
            raise usage.UsageError("a memory: queue can be seen only in its own process")
        if parsed.scheme == "sqlite" and not may_make and not Path(parsed.path).is_file():
            raise usage.UsageError(f"{parsed.path}: there is no such queue")
        return open_queue(url, host.reactor)
    except QueueError as error:
        raise usage.UsageError(str(error)) from error


@define(eq=False)
class QueueJob(OneShotService):
    """Does one thing with queues, and closes them."""

    _options: Options
    _output: Output
    _running: Deferred[str | None] | None = field(default=None, init=False)

    @property
    def queues(self) -> list[EventQueue]:
        """The queues to close."""
        raise NotImplementedError

    async def do(self) -> str | None:
        """Do it; returns why it failed, None if it did not."""
        raise NotImplementedError

    @override
    def cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    @override
    async def work(self) -> str | None:
        try:
            for queue in self.queues:
                queue.open()
            self._running = Deferred.fromCoroutine(self.do())
            return await self._running
        except CancelledError:
            return "interrupted"
        except (QueueError, MoveFailed) as error:
            return str(error)
        finally:
            for queue in self.queues:
                with suppress(QueueError):  # what was promised has been answered before
                    await queue.close()


@define(eq=False)
class VerbService(QueueJob):
    """Runs a verb of verbs.py, after its `question`, if it has one, was answered with yes."""

    _queue: EventQueue
    _stdin: TextIO | None
    _stderr: TextIO | None
    _question: str | None = None

    @property
    @override
    def queues(self) -> list[EventQueue]:
        return [self._queue]

    @override
    def startService(self) -> None:
        """Read what is needed from standard input, while Ctrl-C still ends a read."""
        if self._question is not None and self._stdin is not None and self._stderr is not None:
            self._stderr.write(self._question)
            self._stderr.flush()
            if self._stdin.readline().strip().lower() not in ("y", "yes"):
                raise usage.UsageError("nothing was deleted")
        if self._options["verb"] == "put":
            self._options["words"] = [self._options["words"][0], self._body()]
        OneShotService.startService(self)

    def _body(self) -> bytes:
        words = self._options["words"][1:]
        if words != ["-"]:
            return "".join(words).encode(errors="surrogateescape")
        if self._stdin is None:
            raise usage.UsageError("put -: standard input is closed")
        return self._stdin.buffer.read()

    @override
    async def do(self) -> str | None:
        return await VERBS[self._options["verb"]](self._queue, self._options, self._output)


@define(eq=False)
class MoveService(QueueJob):
    """Moves the events of a queue, and says how many it has moved, also if it fails."""

    _source: EventQueue
    _target: EventQueue
    _stderr: TextIO | None
    _move: Move = field(init=False)
    _bar: Bar | None = field(init=False, default=None)
    _drawn: float = field(init=False, default=float("-inf"))

    def __attrs_post_init__(self) -> None:
        self._move = Move(
            self._source,
            self._target,
            self._host.reactor,
            self._options["from"],
            self._options["words"],
            self._options["rate"],
            wait=not self._options["no-wait"],
            progress=self._progress,
        )
        if _is_terminal(self._stderr) and self._stderr is not None:
            self._bar = Bar(self._stderr)

    @property
    @override
    def queues(self) -> list[EventQueue]:
        return [self._source, self._target]

    @override
    def cancel(self) -> None:
        self._move.stop()

    @override
    async def do(self) -> str | None:
        try:
            await self._move.run()
        finally:
            if self._bar is not None:
                self._bar.stop()
            self._sum_up()
        return None

    def _progress(self, done: int, total: int | None) -> None:
        now = self._host.reactor.seconds()
        if self._bar is not None and now - self._drawn >= _REFRESH:
            self._drawn = now
            self._bar.update(done, total, "")

    def _sum_up(self) -> None:
        records: list[Record] = []
        for name in sorted({each for each, _ in self._move.moved}):
            states = {state: self._move.moved[name, state] for state in State}
            records.append(
                {
                    "type": name,
                    "moved": sum(states.values()),
                    "delayed": states[State.DELAYED],
                    "buried": states[State.BURIED],
                }
            )
        if self._output.json:
            self._output.rows(records, ())
            return
        if records:
            columns = [
                Column("type", lambda record: str(record["type"])),
                *(number_column(key) for key in ("moved", "delayed", "buried")),
            ]
            self._output.rows(records, columns)
        self._output.line(f"moved {counted(self._move.count, 'event')}")
