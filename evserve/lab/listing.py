"""The list of models: each is started for a moment, which is how to know that it can."""

from collections.abc import Sequence
from typing import TextIO

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from evserve.interfaces import IHost
from evserve.lab.measurement import Bench
from evserve.lab.models import Model
from evserve.lab.process import NotStartedError
from evserve.writing import UnwritableError, print_to


_log = Logger(namespace="evserve.lab")


@define(eq=False)
class Listing(Service):
    """Prints a line for each model, and ends the process."""

    _host: IHost
    _models: Sequence[Model]
    _out: TextIO
    _bench: Bench = field(init=False)
    _done: Deferred[None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._bench = Bench(self._host.reactor)

    def startService(self) -> None:
        """Begin as soon as the reactor runs."""
        Service.startService(self)
        self._host.reactor.callWhenRunning(self._begin)

    def stopService(self) -> Deferred[None] | None:
        """End what is being tried; fires when it has ended."""
        Service.stopService(self)
        self._bench.stop()
        return self._done

    def _begin(self) -> None:
        if self.running:
            self._done = Deferred.fromCoroutine(self._list())

    async def _list(self) -> None:
        try:
            for model in self._models:
                if self._bench.is_stopped:
                    break
                why = await self.obstacle(model)
                note = "" if why is None else f" [cannot run here: {why}]"
                print_to(self._out, f"{model.name:<24} {model.description}{note}\n")
        except UnwritableError as error:
            self._host.fail(str(error))
        except Exception:
            _log.failure("the list broke off")
            self._host.fail("the list broke off")
        else:
            self._host.finish()

    async def obstacle(self, model: Model) -> str | None:
        """Return why a model cannot run here, None if it can."""
        child = self._bench.child(model)
        try:
            await child.start()
        except NotStartedError as error:
            return str(error)
        finally:
            await child.stop()
        return None
