"""uvicorn's lifespan, with what the host needs to know of it."""

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.lifespan.off import LifespanOff
from uvicorn.lifespan.on import LifespanOn

from evserve.plugin import printable


class Lifespan(LifespanOn):  # type: ignore[misc]  # uvicorn is an extra
    """Remembers why a start or an end failed, and can be cancelled."""

    problem = ""
    _task: "asyncio.Task[Any] | None" = None

    @override
    async def main(self) -> None:
        self._task = asyncio.current_task()
        await super().main()

    @override
    async def send(self, message: Any) -> None:
        if message["type"].endswith(".failed"):
            # Starlette sends a traceback, whose last line is the error.
            lines = str(message.get("message", "")).strip().splitlines()
            self.problem = printable(lines[-1].strip()) if lines else ""
        await super().send(message)

    def cancel(self) -> bool:
        """Give up a start or an end that is under way; return whether one was."""
        return self._task is not None and self._task.cancel()


class NoLifespan(LifespanOff):  # type: ignore[misc]  # uvicorn is an extra
    """What stands for the lifespan of an application that is not to be told."""

    problem = ""

    def cancel(self) -> bool:
        return False
