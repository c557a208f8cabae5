"""What the work service publishes; the label `handler` is a handler's pattern."""

from enum import Enum

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Outcome(Enum):
    """How the run of a handler ended, for the queue."""

    DONE = "done"
    RETRIED = "retried"
    BURIED = "buried"
    LOST = "lost"
    """The queue did not confirm the verdict: the event may come again."""


@define(eq=False)
class WorkMetrics:
    """The metrics of one worker, registered with `registry`."""

    registry: CollectorRegistry
    events: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    running: Gauge = field(init=False)
    overdue: Gauge = field(init=False)
    connected: Gauge = field(init=False)

    def __attrs_post_init__(self) -> None:
        registry = self.registry
        self.events = Counter(
            "evserve_work_events", "Events handled.", ["handler", "outcome"], registry=registry
        )
        self.seconds = Histogram(
            "evserve_work_handler_seconds", "Time a handler took.", ["handler"], registry=registry
        )
        self.running = Gauge("evserve_work_running", "Handlers running now.", registry=registry)
        self.overdue = Gauge(
            "evserve_work_overdue", "Handlers that run on after their time-out.", registry=registry
        )
        self.connected = Gauge(
            "evserve_work_queue_up", "Whether the queue answered last time.", registry=registry
        )
