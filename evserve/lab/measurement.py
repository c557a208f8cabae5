"""One model at one number of connections: a fresh server, the load, the end of the server."""

from typing import Any

from attrs import define, field

from evserve.lab.classify import Ending, classify
from evserve.lab.models import Model
from evserve.lab.process import Child, Children, NotStartedError
from evserve.lab.results import Cell, Outcome
from evserve.lab.settings import Measure
from evserve.load.run import LoadRun


_LAST_WORDS = 1.0  # seconds at most between a lost connection and the news of a server's crash


@define(eq=False)
class Bench:
    """Measures one model at a time; `stop` ends what is under way."""

    reactor: Any
    children: Children = field(factory=Children)
    _run: LoadRun | None = field(default=None, init=False)
    _child: Child | None = field(default=None, init=False)
    is_stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Begin nothing more and end what is being measured."""
        self.is_stopped = True
        if self._run is not None:
            self._run.stop()
        self.children.kill()

    def child(self, model: Model) -> Child:
        """Return a child for one run of `model`, which is not yet started."""
        return Child(self.reactor, model, self.children)

    async def cell(
        self, model: Model, connections: int, measure: Measure, active: int | None = None
    ) -> Cell:
        """Measure `model`; `active` connections talk, by default as many as `measure` says."""
        talking = measure.active(connections) if active is None else active
        child = self.child(model)
        try:
            await child.start()
            return await self._load(child, connections, talking, measure)
        except NotStartedError as error:
            outcome = Outcome.UNAVAILABLE if error.missing else Outcome.BROKE
            return self._unless_stopped(Cell(connections, talking, outcome, str(error)))
        finally:
            await child.stop()

    async def _load(self, child: Child, connections: int, active: int, measure: Measure) -> Cell:
        plan = measure.plan(child.port, child.pid, connections, active)
        self._run = run = LoadRun(self.reactor, plan)
        gone = child.when_ended().addCallback(lambda _: run.stop())
        try:
            report = await run.run()
        except ProcessLookupError:  # it ended between its first word and the first connection
            await child.when_ended()
            return Cell(connections, active, Outcome.BROKE, child.reason())
        finally:
            self._run = None
            gone.addErrback(lambda _: None)
            gone.cancel()
        if report.failure is not None or report.connections.lost:
            await child.ends_within(_LAST_WORDS)
        ending = Ending(child.reason() if child.has_ended else None, child.complaint)
        return self._unless_stopped(classify(report, ending))

    def _unless_stopped(self, cell: Cell) -> Cell:
        if self.is_stopped:
            return Cell(cell.connections, cell.active, Outcome.NOT_RUN, "stopped while it ran")
        return cell
