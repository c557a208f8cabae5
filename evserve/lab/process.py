"""A program that is being measured: started, watched for what it says, and surely ended."""

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from evserve.lab.models import Model


_LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_LISTENING = re.compile(rb"^\S+: listening on 127\.0\.0\.1:(\d+)\s*$", re.MULTILINE)
_START = 60.0  # seconds to say that it listens
_GOODBYE = 0.5  # seconds to end after SIGTERM
_KEPT = 4096  # bytes of what it says
MISSING = 3  # the exit status of a model that lacks a package


class NotStartedError(Exception):
    """The program does not listen; the message says why. `missing`: it lacks a package."""

    def __init__(self, reason: str, *, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing


@define(eq=False)
class Child(ProcessProtocol):
    """One run of a program, from `start` or `spawn` to `stop`."""

    _reactor: Any
    _model: Model
    _registry: "Children"
    port: int = field(default=0, init=False)
    pid: int = field(default=0, init=False)
    status: int | None = field(default=None, init=False)  # None, too, if a signal ended it
    signal: int | None = field(default=None, init=False)
    has_ended: bool = field(default=False, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)
    _out: bytes = field(default=b"", init=False)
    _err: bytes = field(default=b"", init=False)
    _listening: Deferred[None] | None = field(default=None, init=False)

    async def start(self, *arguments: str) -> None:
        """Return when the program listens; raises NotStartedError."""
        self.spawn("0", *arguments)
        self._listening = Deferred()
        timer = self._reactor.callLater(_START, self._fire)
        try:
            await self._listening
        finally:
            self._listening = None
            if timer.active():
                timer.cancel()
        if not self.port:
            raise NotStartedError(self.reason(), missing=self.status == MISSING)

    def spawn(self, *arguments: str) -> None:
        """Start the program, whatever it does."""
        words = [sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid())]
        words += [*self._model.words, *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._registry.add(self)
        pipes: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        process = self._reactor.spawnProcess(self, words[0], words, environment, childFDs=pipes)
        self.pid = process.pid

    @property
    def out(self) -> str:
        """The end of what it printed."""
        return self._out.decode(errors="replace")

    @property
    def complaint(self) -> str | None:
        """The last line it wrote to standard error, without its own name."""
        lines = self._err.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), None)
        return None if last is None else last.removeprefix(f"{self._model.name}: ")

    def reason(self) -> str:
        """Say why it does not serve."""
        if not self.has_ended:
            return f"it did not say 'listening on 127.0.0.1:PORT' within {_START:g} s"
        if self.complaint is not None:
            return self.complaint
        if self.signal is not None:
            return f"it was ended by {signal.Signals(self.signal).name}"
        return f"it ended with status {self.status}"

    def when_ended(self) -> Deferred[None]:
        """Return a Deferred that fires when the program is gone."""
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        if self.has_ended:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred

    async def ends_within(self, seconds: float) -> None:
        """Wait until the program is gone, for at most so long."""
        ended = self.when_ended()
        timer = self._reactor.callLater(seconds, ended.cancel)
        with contextlib.suppress(CancelledError):
            await ended
        if timer.active():
            timer.cancel()

    async def stop(self) -> None:
        """End the program and all its processes: politely, then by force."""
        if not self.has_ended:
            self._signal(signal.SIGTERM)
            timer = self._reactor.callLater(_GOODBYE, self.kill)
            await self.when_ended()
            if timer.active():
                timer.cancel()
        self.kill()  # what it may have left behind

    def kill(self) -> None:
        """End all its processes now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # Until the launcher has made its session there is no group of that number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
            return
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def outReceived(self, data: bytes) -> None:
        """Look for the line that tells the port."""
        self._out = (self._out + data)[-_KEPT:]
        found = _LISTENING.search(self._out)
        if found and not self.port:
            self.port = int(found[1])
            self._fire()

    def errReceived(self, data: bytes) -> None:
        """Keep what it complains about."""
        self._err = (self._err + data)[-_KEPT:]

    def processEnded(self, reason: Failure) -> None:
        """Note how it ended."""
        self.has_ended = True
        self.status = 0 if reason.check(ProcessDone) else getattr(reason.value, "exitCode", None)
        self.signal = getattr(reason.value, "signal", None)
        self._registry.discard(self)
        self._fire()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _fire(self) -> None:
        if self._listening is not None and not self._listening.called:
            self._listening.callback(None)


@define(eq=False)
class Children:
    """The programs that are running: whatever happens, none outlives the lab."""

    _running: dict[Child, None] = field(factory=dict, init=False)

    def add(self, child: Child) -> None:
        """Remember a program that is being started."""
        self._running[child] = None

    def discard(self, child: Child) -> None:
        """Forget one that has ended."""
        self._running.pop(child, None)

    def kill(self) -> None:
        """End all of them now."""
        for child in list(self._running):
            child.kill()

    def __len__(self) -> int:
        return len(self._running)
