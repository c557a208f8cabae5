"""The run-time seams: what a plugin promises to the host, and what the host gives a service."""

from collections.abc import Callable
from typing import Any

from attrs import frozen
from prometheus_client import CollectorRegistry
from twisted.application.service import IService
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.usage import Options
from zope.interface import Attribute, Interface


class IHost(Interface):
    """What every service needs and must not import."""

    reactor: Any = Attribute("The running reactor: timers, threads, clients, datagrams.")
    metrics: CollectorRegistry = Attribute(
        "A prometheus_client registry; its metrics are published under this service's name."
    )

    def listen(options: Options, factory: IProtocolFactory) -> IService:
        """Return a service that serves `factory` wherever the command line or config says.

        Endpoints, connection limits, idle time-out, drain and connection metrics are the host's;
        `options` is the mapping given to `makeService`, which holds them.
        """

    def fail(reason: str) -> None:
        """Stop the process with status 1, after `reason` as one line on standard error."""

    def finish(status: int = 0) -> None:
        """Stop the process with `status`: a one-shot job has done its work."""


@frozen
class LoadedService:
    """A service plugin whose code is imported: its option class and its constructor."""

    options: Callable[[], Options]
    make_service: Callable[[Options, IHost], IService]


class IServicePlugin(Interface):
    """A service that can be named on the command line and in the config file."""

    name: str = Attribute("The sub-command, and the name of the config table.")
    description: str = Attribute("One line for `--help`.")
    module: str = Attribute("The dotted name of the module that holds the service.")
    listens: bool = Attribute(
        "Whether it takes the host's listening options (`--port`, limits, ...)."
    )
    stateless: bool = Attribute("Whether several processes may run it side by side.")

    def load() -> LoadedService:
        """Import the service's module.

        Raises evserve.plugin.PluginError, with the cause in one line.
        """


class IHandlerPlugin(Interface):
    """A function that is called with each event of the types its pattern matches."""

    pattern: str = Attribute("An event type, or the beginning of one and `*`.")
    function: str = Attribute("The dotted name of the function.")
    blocking: bool = Attribute("Whether it runs in a thread instead of the reactor.")
    max_attempts: int | None = Attribute("Tries before it is buried; None: the service says.")
    timeout: float | None = Attribute("Seconds for one try; 0: no limit; None: the service says.")

    def load() -> Callable[[Any], object]:
        """Import the function, which takes an evserve.events.Event.

        Raises evserve.plugin.PluginError, with the cause in one line.
        """


class IDrainable(Interface):
    """A protocol that knows when its work in flight is done.

    A protocol without it is closed with `loseConnection`, once what it wrote has been sent.
    """

    def drain() -> None:
        """Take no new work, finish what is in flight, then close the connection."""
