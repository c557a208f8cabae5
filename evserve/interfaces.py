"""Interfaces between plugins and the host, looked up at run time.

A service gets an IHost. A plugin file contains an IServicePlugin, an IHandlerPlugin or an
ISchedulePlugin. A protocol that may have work in flight provides IDrainable, and IBusy if it may
be silent meanwhile; a service with other work in flight provides IAbortable, one that may not be
ready IReadiness, one that other services need IStopsLast.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import frozen
from prometheus_client import CollectorRegistry
from twisted.application.service import IService
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.usage import Options
from zope.interface import Attribute, Interface


class IHost(Interface):
    """The host as a service sees it; a service imports neither the reactor nor the host."""

    reactor: Any = Attribute("The running reactor: timers, threads, clients, datagrams.")
    metrics: CollectorRegistry = Attribute(
        "A prometheus_client registry; its metrics are published under this service's name."
    )

    def listen(options: Options, factory: IProtocolFactory) -> IService:
        """Return a service that serves `factory` on the endpoints in `options`.

        The host provides endpoints, connection limits, the idle time-out, the drain and connection
        metrics; `options` are those given to `makeService`.
        """

    def fail(reason: str) -> None:
        """Stop the process with status 1, after `reason` as one line on standard error."""

    def finish(status: int = 0) -> None:
        """Stop the process with `status`: a one-shot job is done."""


@frozen
class LoadedService:
    """The code of a service: its option class and its constructor."""

    options: Callable[[], Options]
    make_service: Callable[[Options, IHost], IService]


class IServicePlugin(Interface):
    """A service for the command line and the config file."""

    name: str = Attribute("The sub-command, and the name of the config table.")
    description: str = Attribute("One line for `--help`.")
    module: str = Attribute("The dotted name of the module that defines the service.")
    listens: bool = Attribute("Whether it has the listening options (`--port`, limits, ...).")
    stateless: bool = Attribute("Whether several processes may run it, as `--workers` does.")

    def load() -> LoadedService:
        """Import the service's module; raises evserve.plugin.PluginError."""


class IHandlerPlugin(Interface):
    """A function to call with each event of the types that its pattern matches."""

    pattern: str = Attribute("An event type, or a prefix and `*`.")
    function: str = Attribute("The dotted name of the function.")
    blocking: bool = Attribute("Whether to call it in a thread instead of the reactor.")
    max_attempts: int | None = Attribute(
        "Attempts before the event is buried; None: those of the service."
    )
    timeout: float | None = Attribute(
        "Seconds per attempt; 0: no limit; None: those of the service."
    )

    def load() -> Callable[[Any], object]:
        """Import the function, which takes an evserve.events.Event; raises PluginError."""


class ISchedulePlugin(Interface):
    """An event to put at each tick of a schedule."""

    name: str = Attribute("Names the schedule's position in the queue; unique among plugins.")
    event_type: str = Attribute("The type of the events.")
    expression: str = Attribute("When it ticks; only shown.")
    timezone: str = Attribute("The time zone of the expression; only shown.")
    body: bytes | None = Attribute("The body of the events; None: JSON that names the tick.")
    priority: int = Attribute("The priority of the events.")
    ttr: int = Attribute("The TTR of the events in seconds.")
    missed: str = Attribute("What comes of ticks while no worker ran: `last` or `skip`.")

    def load() -> Callable[[float], datetime | None]:
        """Return the function from a time to the first tick after it; raises PluginError.

        The time is in seconds since the epoch, and a tick is a whole number of those, as a
        datetime with a time zone; None when there is none any more.
        """


class IAbortable(Interface):
    """A service with work in flight that is no connection: the host closes those itself."""

    def abort() -> str:
        """Give up the work in flight: the time to drain is over, and the process is about to end.

        Returns what was given up, such as `2 handlers`, or an empty string.
        """


class IStopsLast(Interface):
    """A service that others of the process may need to finish what they do.

    It is stopped when they have stopped, or a moment after the time to drain is over.
    """


class IBusy(Interface):
    """A protocol whose connection may be silent for long and in use all the same."""

    def busy() -> bool:
        """Return whether the server owes an answer, or the client works on what it was given.

        The idle time-out runs only while it is False, or while the client leaves data unread.
        """


class IReadiness(Interface):
    """A service that listens, but for a time may not do what clients come for."""

    def unready_reason() -> str | None:
        """Return one line that /readyz shows, None when the service is ready."""


class IDrainable(Interface):
    """A protocol that may have work in flight when the process stops.

    Any other protocol is closed with `loseConnection`, which sends what was written first.
    """

    def drain() -> None:
        """Accept no new work, finish the work in flight, then close the connection."""
