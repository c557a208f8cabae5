"""uvicorn's lifespan, with what the host needs to know of it."""

import asyncio
from copy import copy
from typing import Any

from typing_extensions import override
from uvicorn.config import Config
from uvicorn.lifespan.off import LifespanOff
from uvicorn.lifespan.on import LifespanOn

from evserve.plugin import one_line, printable


class Lifespan(LifespanOn):  # type: ignore[misc]  # uvicorn is an extra
    """Knows why a start or an end failed, and can be cancelled."""

    def __init__(self, config: Config) -> None:
        self.problem = ""  # in one line
        self._application = config.loaded_app
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False
        observed = copy(config)
        observed.loaded_app = self._call
        super().__init__(observed)

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        self._task = asyncio.current_task()
        try:
            await self._application(scope, receive, send)
        except BaseException as error:
            self.problem = self.problem or one_line(error)
            if not self._is_cancelled:
                raise
            self.problem = "it took too long"
            if self.startup_event.is_set():
                self.shutdown_failed = True
            else:
                self.startup_failed = True

    @override
    async def send(self, message: Any) -> None:
        if message["type"].endswith(".failed"):
            # Starlette sends a traceback, whose last line is the error.
            lines = str(message.get("message", "")).strip().splitlines()
            self.problem = printable(lines[-1].strip()) if lines else ""
        await super().send(message)

    def cancel(self) -> None:
        """Give up a start or an end that is under way."""
        if self._task is not None:
            self._is_cancelled = True
            self._task.cancel()


class NoLifespan(LifespanOff):  # type: ignore[misc]  # uvicorn is an extra
    """What stands for the lifespan of an application that is not to be told."""

    problem = ""

    def cancel(self) -> None:
        """Do nothing: there is nothing that may take long."""
