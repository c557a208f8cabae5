"""The UDP port as a service that starts and stops with the rest."""

from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, InvalidAddressError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from evserve.interfaces import IHost


# Twisted's default of 8192 would cut longer datagrams without a word.
LARGEST_DATAGRAM = 65535

_log = Logger(namespace="evserve.echo")


@define(eq=False)
class DatagramService(Service):
    """Listens on a UDP port; if it cannot, the process ends with one line."""

    _host: IHost
    _port: int
    _interface: str
    _protocol: DatagramProtocol
    _has_tried: bool = field(default=False, init=False)
    _listening: Any = field(default=None, init=False)

    def privilegedStartService(self) -> None:
        """Bind while the process may still bind port 7."""
        Service.privilegedStartService(self)
        self._listen_once()

    def startService(self) -> None:
        """Bind, if the start was not privileged, and say where."""
        Service.startService(self)
        self._listen_once()
        if self._listening is not None:
            _log.info(
                "{name}: listening on udp {address}",
                name=getattr(self.parent, "name", None) or "echo",
                address=self._where(self._listening.getHost().port),
            )

    def stopService(self) -> Deferred[None] | None:
        """Stop listening; what is still waiting is not sent."""
        Service.stopService(self)
        self._has_tried = False
        listening, self._listening = self._listening, None
        return None if listening is None else listening.stopListening()

    def _listen_once(self) -> None:
        if not self._has_tried:
            self._has_tried = True
            self._listen()

    def _listen(self) -> None:
        try:
            self._listening = self._host.reactor.listenUDP(
                self._port, self._protocol, self._interface, LARGEST_DATAGRAM
            )
        except CannotListenError as error:
            self._fail(error.socketError)
        except InvalidAddressError as error:
            self._fail(error.message)

    def _fail(self, reason: object) -> None:
        why = getattr(reason, "strerror", None) or reason
        self._host.fail(f"cannot listen on udp {self._where(self._port)}: {why}")

    def _where(self, port: int) -> str:
        host = f"[{self._interface}]" if ":" in self._interface else self._interface
        return f"{host}:{port}"
