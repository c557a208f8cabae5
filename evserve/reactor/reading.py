"""Reading: what uvloop calls with bytes, and when it may.

`data_received` is the Twisted protocol's own bound `dataReceived` where that can't change. uvloop
looks it up when a protocol is set, so it is set anew when `protocol` is assigned, and after
`connectionMade`. But Twisted promises to look `dataReceived` up for each read, and some protocols
put another in its place at any time: for an object with a `__dict__` one line of Python does that,
for 15 ns.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.python.log import callWithContext

from evserve.reactor.flow import Flow


_UNNAMED = Protocol.logPrefix


class Reading(Flow):
    """The IPushProducer part of a stream."""

    data_received: Callable[[bytes], Any]
    logstr: str
    _protocol: Any = None
    _early: list[Any] | None = None  # what came while the protocol wanted nothing
    _begun = False  # uvloop reads, or would if it were not paused
    _paused = False
    _read_ended = False
    reads_next_turn = False  # what connectionMade puts off until the next turn is to come first

    @property
    def protocol(self) -> Any:
        """The Twisted protocol; assigning another switches to it from the next byte on."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self.data_received = self._reader()
        if self._begun:
            self.read_natively()

    @property
    def reading(self) -> bool:
        """Whether bytes are wanted."""
        return self.connected and not (self._paused or self._read_ended or self.disconnecting)

    def begin(self) -> None:
        """Read, after connectionMade; uvloop does so whatever was said there."""
        self._begun = True
        if self.connected:
            if self.reads_next_turn:
                self.reactor.loop.call_soon(self._release)
            if self.reads_next_turn or not self.reading:
                self._early = []
            self.data_received = self._reader()
            self.read_natively()

    def read_natively(self) -> None:
        """Let uvloop look `data_received` up again."""
        self.uv.set_protocol(self)

    def _reader(self) -> Callable[[bytes], Any]:
        if self._early is not None:
            return self.hold
        protocol = self._protocol
        if getattr(type(protocol), "logPrefix", _UNNAMED) is not _UNNAMED:
            # It has a name for the log, so what it logs shall bear it, at Twisted's price.
            return partial(callWithContext, {"system": self.logstr}, self._read)
        if type(protocol).__dictoffset__:  # its own: wrappers may answer for what they wrap
            return self._read
        return cast("Callable[[bytes], Any]", protocol.dataReceived)

    def _read(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def hold(self, data: bytes) -> None:
        """Keep bytes that came too early, and read no more."""
        self._early = [*(self._early or ()), data]
        self.uv.pause_reading()

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self._paused = True
        if self.connected:
            self.uv.pause_reading()

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        if not self.connected or self.disconnecting:
            return
        self._paused = False
        if self._early is not None:
            self.reactor.loop.call_soon(self._release)
        elif not self._read_ended:
            self.uv.resume_reading()

    def stopProducing(self) -> None:
        """See IPushProducer."""
        self.loseConnection()

    stopReading = pauseProducing
    startReading = resumeProducing

    def _release(self) -> None:
        """Deliver what came too early, and read on."""
        if self._early is None or not self.reading:
            return
        early, self._early = self._early, None
        if not self._begun:
            return
        self.data_received = self._reader()
        self.read_natively()
        for each in early:
            self.deliver(each)
        if self.reading:
            self.uv.resume_reading()

    def deliver(self, data: bytes | None) -> None:
        """Give the protocol bytes, or the end (None), that uvloop has not delivered itself."""
        if not self.connected:
            return
        try:
            if data is None:
                self.eof_received()
            else:
                self.data_received(data)
        except Exception:
            self.fail(Failure())

    def eof_received(self) -> bool:
        """Hear from uvloop that the peer says no more."""
        raise NotImplementedError
