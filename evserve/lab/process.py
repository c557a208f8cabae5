"""The process of a model: started by launcher.py, watched for its output, always ended."""

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from typing_extensions import override

from evserve.lab.models import Model


_LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_LISTENING = re.compile(rb"^\S+: listening on 127\.0\.0\.1:(\d+)\s*$", re.MULTILINE)
_START_TIMEOUT = 60.0  # seconds until it must listen
_STOP_TIMEOUT = 0.5  # seconds between SIGTERM and SIGKILL
_MAX_OUTPUT = 4096  # bytes of its output that are kept
_UNAVAILABLE = 3  # exit status of a model that lacks a package


class NotStartedError(Exception):
    """The program does not listen; the message says why. `unavailable`: it lacks a package."""

    def __init__(self, reason: str, *, unavailable: bool = False) -> None:
        super().__init__(reason)
        self.unavailable = unavailable


@define(eq=False)
class ModelProcess(ProcessProtocol):
    """One run of a program, from `start` or `spawn` to `stop`."""

    _reactor: Any
    _model: Model
    _registry: "ProcessRegistry"
    port: int = field(default=0, init=False)
    pid: int = field(default=0, init=False)
    status: int | None = field(default=None, init=False)  # also None if a signal ended it
    signal: int | None = field(default=None, init=False)
    has_ended: bool = field(default=False, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)
    _out: bytes = field(default=b"", init=False)
    _err: bytes = field(default=b"", init=False)
    _started: Deferred[None] = field(factory=Deferred, init=False)  # listens, or has ended

    async def start(self) -> None:
        """Return when the program listens; raises NotStartedError."""
        self.spawn("0")
        with contextlib.suppress(defer.TimeoutError):
            await self._started.addTimeout(_START_TIMEOUT, self._reactor)
        if not self.port:
            raise NotStartedError(self.reason(), unavailable=self.status == _UNAVAILABLE)

    def spawn(self, *arguments: str) -> None:
        """Start the program without waiting for it to listen."""
        words = [sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid())]
        words += [*self._model.command, *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        pipes: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        process = self._reactor.spawnProcess(self, words[0], words, environment, childFDs=pipes)
        self.pid = process.pid
        self._registry.add(self)

    @property
    def out(self) -> str:
        """The last part of its standard output."""
        return self._out.decode(errors="replace")

    @property
    def last_error(self) -> str | None:
        """The last line of its standard error, without the program's name."""
        lines = self._err.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), None)
        return None if last is None else last.removeprefix(f"{self._model.name}: ")

    def reason(self) -> str:
        """Return why it does not serve."""
        if not self.has_ended:
            return f"it did not print 'listening on 127.0.0.1:PORT' within {_START_TIMEOUT:g} s"
        if self.last_error is not None:
            return self.last_error
        if self.signal is not None:
            return f"it was ended by {signal.Signals(self.signal).name}"
        return f"it ended with status {self.status}"

    def when_ended(self) -> Deferred[None]:
        """Return a Deferred that fires when the program has ended."""
        deferred: Deferred[None] = Deferred(self._waiting.remove)
        if self.has_ended:
            deferred.callback(None)
        else:
            self._waiting.append(deferred)
        return deferred

    async def wait(self, seconds: float) -> None:
        """Wait until the program has ended, for at most `seconds`."""
        with contextlib.suppress(defer.TimeoutError):
            await self.when_ended().addTimeout(seconds, self._reactor)

    async def stop(self) -> None:
        """End the program and its child processes, first with SIGTERM, then with SIGKILL."""
        if not self.pid:
            return  # it could not be started; a signal to group 0 would end the lab
        if not self.has_ended:
            self._signal(signal.SIGTERM)
            await self.wait(_STOP_TIMEOUT)
        self.kill()  # its child processes too, which may outlive it
        await self.when_ended()

    def kill(self) -> None:
        """Send SIGKILL to all its processes."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # The process group does not exist before the launcher has called setsid.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
            return
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @override
    def outReceived(self, data: bytes) -> None:
        self._out = (self._out + data)[-_MAX_OUTPUT:]
        found = _LISTENING.search(self._out)
        if found and not self.port:
            self.port = int(found[1])
            self._end_start()

    @override
    def errReceived(self, data: bytes) -> None:
        self._err = (self._err + data)[-_MAX_OUTPUT:]

    @override
    def processEnded(self, reason: Failure) -> None:
        self.has_ended = True
        self.status = 0 if reason.check(ProcessDone) else getattr(reason.value, "exitCode", None)
        self.signal = getattr(reason.value, "signal", None)
        self._registry.discard(self)
        self._end_start()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _end_start(self) -> None:
        if not self._started.called:
            self._started.callback(None)


class ProcessRegistry(set[ModelProcess]):
    """The running processes, so that none outlives the lab."""

    def kill(self) -> None:
        """Send SIGKILL to all of them."""
        for process in list(self):
            process.kill()
