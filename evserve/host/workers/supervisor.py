"""The crew: N workers, started, replaced when they die, and told to stop."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from evserve.host.workers.assignment import Socket
from evserve.host.workers.backoff import Backoff
from evserve.host.workers.child import Child
from evserve.host.workers.messages import Kind
from evserve.host.workers.totals import Totals


_log = Logger()


class Starter(Protocol):
    """Starts the process of a worker."""

    def start(self, child: Child, sockets: Mapping[Socket, int]) -> None:
        """Start `child`, with copies of these descriptors."""


@define(eq=False)
class Crew(Service):
    """`size` workers; `failed` is called with the one that ended before all had begun to serve."""

    size: int
    reactor: Any
    launcher: Starter
    failed: Callable[[Child], None]
    totals: Totals = field(factory=Totals)
    sockets: dict[Socket, int] = field(init=False, factory=dict)
    complete: Deferred[None] = field(init=False, factory=Deferred)  # all serve for the first time
    clean: bool = field(init=False, default=True)  # nobody had to be cut off
    _children: dict[int, Child] = field(init=False, factory=dict)
    _replacing: dict[int, IDelayedCall] = field(init=False, factory=dict)
    _backoff: defaultdict[int, Backoff] = field(init=False, factory=lambda: defaultdict(Backoff))
    _gone: Deferred[None] | None = field(init=False, default=None)  # set when stopping

    def start(self, sockets: dict[Socket, int]) -> None:
        """Start the first worker; the others follow once it serves.

        What is wrong with one is wrong with all, and need not be said by each.
        """
        self.sockets = sockets
        if self._gone is None:
            self._start(1)

    def pids(self) -> list[int]:
        """Return the process ids of the workers, by number."""
        return [self._children[number].pid for number in sorted(self._children)]

    def _start(self, number: int) -> None:
        self._replacing.pop(number, None)
        now = self.reactor.seconds()
        child = Child(number, now, self._ready, self.totals.update, self._ended)
        self._children[number] = child
        try:
            self.launcher.start(child, self.sockets)
        except OSError as error:  # no memory, or too many processes: as good as dead
            child.end = f"could not start ({error.strerror})"
            self._ended(child)

    def _ready(self, child: Child) -> None:
        if self._gone is not None:  # the sockets that others would inherit are closed
            return
        if self.complete.called:
            _log.info("worker {number} serves (process {pid})", number=child.number, pid=child.pid)
        elif len(self._children) < self.size:
            for number in range(2, self.size + 1):
                self._start(number)
        if not self.complete.called and self._all_serve():
            self.complete.callback(None)

    def _all_serve(self) -> bool:
        children = self._children.values()
        return len(children) == self.size and all(each.serving for each in children)

    def _ended(self, child: Child) -> None:
        del self._children[child.number]
        self.totals.retire(child)
        if self._gone is not None:
            self._ended_in_stop(child, self._gone)
        elif self.complete.called:
            self._replace(child)
        else:
            self.failed(child)

    def _replace(self, child: Child) -> None:
        wait = self._backoff[child.number].after(self.reactor.seconds() - child.born)
        _log.warn(
            "worker {number} (process {pid}) {end}: starting another in {wait:g} seconds",
            number=child.number,
            pid=child.pid,
            end=child.end,
            wait=wait,
        )
        self._replacing[child.number] = self.reactor.callLater(wait, self._start, child.number)

    def _ended_in_stop(self, child: Child, gone: Deferred[None]) -> None:
        if child.serving and child.status != 0:  # who served nobody has cut nobody off
            self.clean = False
        if not self._children and not gone.called:
            gone.callback(None)

    def stopService(self) -> Deferred[None]:
        """Tell the workers to drain; fires when all have ended."""
        self._gone = gone = Deferred[None]()
        for call in self._replacing.values():
            call.cancel()
        self._replacing.clear()
        self._tell(Kind.DRAIN)
        if not self._children:
            gone.callback(None)
        return gone

    def cut(self) -> None:
        """Tell the workers to abort what is still open."""
        self._tell(Kind.CUT)

    def kill(self) -> int:
        """End the workers that are left; return how many there were."""
        left = list(self._children.values())
        for child in left:
            child.kill()
        return len(left)

    def _tell(self, kind: Kind) -> None:
        for child in self._children.values():
            child.tell(kind)
