"""What a lab run found: the shape of the JSON file, from which the page is drawn.

Key names end in their unit where they have one. `VERSION` changes when a reader of older files
would go wrong.
"""

from enum import StrEnum

from attrs import field, frozen


VERSION = 1


def connections_of(count: int) -> str:
    """Return "1 connection", "1,000 connections"."""
    return f"{count:,} connection" + ("" if count == 1 else "s")


class Outcome(StrEnum):
    """What became of a model at one number of connections."""

    MEASURED = "measured"
    BROKE = "broke"
    SKIPPED = "skipped"  # after it broke, or because it would take more than the machine has
    UNAVAILABLE = "unavailable"  # what it needs is not here
    NOT_RUN = "not run"  # the run was stopped before


class Verdict(StrEnum):
    """What the figures say about a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNKNOWN = "not measured"


@frozen
class Figures:
    """The figures of one model at one number of connections.

    Memory counts a page that processes share once in all; `generator_saturated` says why the load
    generator was the limit, if it was: rate and latencies are then its own as much as the model's.
    """

    seconds: float
    connect_seconds: float  # until every connection was open and answered once
    messages: int
    messages_per_second: float
    p50_seconds: float
    p99_seconds: float
    max_seconds: float
    cpu_seconds: float
    cpu_seconds_per_message: float
    memory_before_bytes: int
    memory_bytes: int
    memory_bytes_per_connection: float
    processes: int
    generator_busy_share: float
    generator_saturated: str | None


@frozen
class Cell:
    """One model at one number of connections; `why` says what broke, or what to know."""

    connections: int
    active: int
    outcome: Outcome
    why: str | None = None
    figures: Figures | None = None


@frozen
class ModelResult:
    """A model and its cells, by rising number of connections; `text` is its docstring."""

    name: str
    family: str
    program: str
    description: str
    text: str
    cells: tuple[Cell, ...]

    @property
    def broke(self) -> Cell | None:
        """The cell at which it broke, or could not be run."""
        ends = (Outcome.BROKE, Outcome.UNAVAILABLE)
        return next((cell for cell in self.cells if cell.outcome in ends), None)


@frozen
class Claim:
    """A claim of the tutorials, what was measured about it, and what that says."""

    name: str
    claim: str
    verdict: Verdict
    evidence: str
    numbers: dict[str, float] = field(factory=dict)  # named with their units


@frozen
class Machine:
    """Where it was measured."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    reactor: str
    packages: dict[str, str]
    open_files_limit: int
    load_average: float  # over the minute before the run


@frozen
class Settings:
    """What was held equal."""

    connections: tuple[int, ...]
    most_active: int
    message_bytes: int
    in_flight_per_connection: int
    seconds: float
    warm_up_seconds: float
    ready_within_seconds: float


@frozen
class Result:
    """A whole run; `partial` says what cut it short, if something did."""

    started: str  # ISO 8601, UTC
    seconds: float
    command: str
    partial: str | None
    notes: tuple[str, ...]
    settings: Settings
    machine: Machine
    models: tuple[ModelResult, ...]
    claims: tuple[Claim, ...]
    version: int = VERSION

    @property
    def measured(self) -> int:
        """How many cells have figures."""
        return sum(cell.figures is not None for model in self.models for cell in model.cells)
