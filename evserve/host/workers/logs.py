"""The log of a worker: it goes where the parent's goes, and does not repeat the parent."""

from attrs import define
from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer


@implementer(ILogObserver)
@define(eq=False)
class WorkerObserver:
    """Names the worker in warnings and errors, and drops what the host merely mentions."""

    inner: ILogObserver
    number: int

    def __call__(self, event: LogEvent) -> None:
        """Observe an event (twisted.logger's ILogObserver)."""
        if event.get("log_level", LogLevel.info) > LogLevel.info:
            text = event.get("log_format") or ""
            event = {**event, "worker": self.number, "log_format": f"worker {{worker}}: {text}"}
        elif str(event.get("log_namespace")).startswith("evserve.host."):
            return
        self.inner(event)
