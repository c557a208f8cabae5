"""Running out of file descriptors: accept no more before the last is gone.

Left alone, a server at its limit is told of the same waiting connection again and again, and
Twisted answers by accepting and dropping it. Pausing leaves clients in the kernel's queue, costs
no CPU, and keeps some descriptors for files.
"""

import os
from typing import Any

from attrs import define, field
from twisted.logger import Logger


_log = Logger()

RETRY = 0.25  # seconds between looks whether there is room again
_MORE = 20  # Twisted accepts this many more in one go than in the last, at most


@define(eq=False)
class DescriptorGuard:
    """Pauses every listening port of the process while few of its `limit` descriptors are left."""

    reactor: Any
    limit: int
    ports: set[Any] = field(init=False, factory=set)
    paused: bool = field(init=False, default=False)

    @property
    def reserve(self) -> int:
        """How many descriptors are kept free: enough for all that one turn may accept."""
        return min(max(32, self.limit // 4), 256, self.limit // 2)

    def watch(self, port: Any) -> None:
        """Look after a listening port."""
        self.ports.add(port)
        self._bound_batch(port)
        if self.paused:
            port.stopReading()

    def forget(self, port: Any) -> None:
        """Stop looking after a port that is being closed."""
        self.ports.discard(port)

    def opened(self, transport: Any) -> None:
        """Note a new connection: the kernel gives the lowest free number, so a high one warns."""
        for port in self.ports:
            self._bound_batch(port)  # it grows while every batch is full
        fileno = getattr(transport, "fileno", None)
        if fileno is not None and fileno() >= self.limit - self.reserve and not self.paused:
            self._pause()

    def _pause(self) -> None:
        self.paused = True
        _log.warn(
            "file limit ({limit}) nearly reached: accepting no connections until there is room",
            limit=self.limit,
        )
        for port in self.ports:
            port.stopReading()
        self.reactor.callLater(RETRY, self._retry)

    def _retry(self) -> None:
        if not self.has_room():
            self.reactor.callLater(RETRY, self._retry)
            return
        self.paused = False
        _log.info("accepting connections again")
        for port in self.ports:
            port.startReading()

    def has_room(self) -> bool:
        """Whether a connection would get a low number, even if each port takes one to accept."""
        probes: list[int] = []
        try:
            for _ in range(len(self.ports) + 1):
                probes.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - may raise midway
        except OSError:
            return False
        finally:
            for each in probes:
                os.close(each)
        return probes[-1] < self.limit - self.reserve

    def _bound_batch(self, port: Any) -> None:
        if hasattr(port, "numberAccepts"):
            port.numberAccepts = max(1, self.reserve - _MORE)
