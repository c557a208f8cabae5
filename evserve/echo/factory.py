"""Which kind of connection the options ask for."""

from attrs import define, field
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory

from evserve.echo.change import Change
from evserve.echo.connection import Connections, EchoConnection
from evserve.echo.delayed import DelayedEcho
from evserve.echo.protocol import ChangedEcho, Echo


@define(eq=False)
class EchoFactory(Factory):
    """Makes connections that do `change`, after `delay` seconds, and counts them."""

    noisy = False  # the host says where it listens

    change: Change
    delay: float
    clock: IReactorTime
    connections: Connections = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.connections = Connections(self.clock)

    @property
    def held(self) -> int:
        """How many bytes are waiting for their delay, over all connections."""
        return sum(each.held for each in self.connections.since if isinstance(each, DelayedEcho))

    def buildProtocol(self, addr: IAddress | None) -> EchoConnection:
        """Return the cheapest protocol that does what is asked."""
        if self.delay:
            return DelayedEcho(self.connections, self.change.stream(), self.delay, self.clock)
        if self.change.is_none:
            return Echo(self.connections)
        return ChangedEcho(self.connections, self.change.stream())
