"""What a lab run found: the shape of lab.json, from which the page is drawn, and the machine.

Keys end in their unit where they have one. `VERSION` changes when an older reader would
misunderstand a newer file.
"""

import json
import os
import platform
import resource
from enum import Enum, StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import attrs
from attrs import field, frozen


VERSION = 1
# With fewer connections, memory per connection is mostly what a server needs in any case.
MIN_CONNECTIONS_FOR_MEMORY = 100
_PACKAGES = ("evserve", "Twisted", "uvloop", "gevent", "greenlet", "liburing")


class Outcome(StrEnum):
    """The outcome for a model at one number of connections."""

    MEASURED = "measured"
    DISTURBED = "not measured"  # other programs took the CPU
    BROKE = "broke"
    SKIPPED = "skipped"  # it broke with fewer connections, or would need too much memory
    UNAVAILABLE = "unavailable"  # something that it needs is missing
    NOT_RUN = "not run"  # the run was stopped before


class Verdict(StrEnum):
    """Whether the figures confirm a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNKNOWN = "not measured"


@frozen
class Figures:
    """The figures of one model at one number of connections.

    A page of memory that processes share is counted once. `generator_saturated` says why the load
    generator was the limit, if it was; rate and latencies then depend on it as on the model.
    """

    seconds: float
    connect_seconds: float  # until every connection was open and had one answer
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
class Measurement:
    """One model at one number of connections; `why` is the reason of the outcome, or a note."""

    connections: int
    active: int
    outcome: Outcome
    why: str | None = None
    figures: Figures | None = None


@frozen
class ModelResult:
    """A model and its measurements by increasing connections; `text` is its docstring."""

    name: str
    family: str
    program: str
    description: str
    text: str
    cells: tuple[Measurement, ...]

    @property
    def broke(self) -> Measurement | None:
        """The measurement at which it broke or was found to be unavailable."""
        ends = (Outcome.BROKE, Outcome.UNAVAILABLE)
        return next((cell for cell in self.cells if cell.outcome in ends), None)


@frozen
class Claim:
    """A claim that tutorials make, the evidence that was measured, and the verdict."""

    name: str
    claim: str
    verdict: Verdict
    evidence: str
    numbers: dict[str, float] = field(factory=dict)  # the names end in units


@frozen
class Machine:
    """The machine on which the figures were measured."""

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
    """What is the same for all models."""

    connections: tuple[int, ...]
    most_active: int
    message_bytes: int
    in_flight_per_connection: int
    seconds: float
    warm_up_seconds: float
    ready_within_seconds: float


@frozen
class Result:
    """A whole run; `partial` is the reason if the run is incomplete."""

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

    def count(self, outcome: Outcome) -> int:
        """Return the number of measurements with this outcome."""
        return sum(cell.outcome is outcome for model in self.models for cell in model.cells)


def format_connections(count: int) -> str:
    """Return a text such as "1 connection" or "1,000 connections"."""
    return f"{count:,} connection" + ("" if count == 1 else "s")


class InvalidResultError(ValueError):
    """The text is not a result of the lab; the message says where and why."""


def as_json(result: Result) -> str:
    """Return the result as JSON."""
    return json.dumps(attrs.asdict(result), indent=1, allow_nan=False) + "\n"


def from_json(text: str) -> Result:
    """Return the result that `as_json` wrote; raises InvalidResultError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidResultError(f"not JSON: {error}") from error
    if not isinstance(value, dict) or "models" not in value:
        raise InvalidResultError("not a result of the lab")
    if value.get("version") != VERSION:
        raise InvalidResultError(f"version {value.get('version')!r}; this evserve reads {VERSION}")
    result: Result = _read(Result, value, "")
    return result


def _read(kind: Any, value: Any, where: str) -> Any:
    """Return `value` converted to the annotation `kind`; `where` is its path in the file."""
    if attrs.has(kind):
        return _read_object(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        if value is None:
            return None
        return _read(next(each for each in arguments if each is not NoneType), value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], each, f"{where}[{n}]") for n, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _read(arguments[1], each, f"{where}.{key}") for key, each in value.items()}
    if origin is None and issubclass(kind, Enum):
        if value in list(kind):
            return kind(value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif type(value) is kind:
        return value
    raise _wrong_type(kind, value, where)


def _read_object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong_type(kind, value, where)
    hints = get_type_hints(kind)
    names = [each.name for each in attrs.fields(kind)]
    for name in names:
        if name not in value:
            raise InvalidResultError(f"{where or 'the file'} has no {name!r}")
    prefix = f"{where}." if where else ""
    return kind(**{name: _read(hints[name], value[name], prefix + name) for name in names})


def _wrong_type(kind: Any, value: Any, where: str) -> InvalidResultError:
    expected = getattr(kind, "__name__", str(kind)).lower().replace("tuple", "list")
    return InvalidResultError(f"{where}: expected {expected}, not {str(value)[:40]!r}")


def this_machine(reactor: Any, proc: Path = Path("/proc")) -> Machine:
    """Return a description of this machine."""
    memory = read_proc_field(proc / "meminfo", "MemTotal") or "0 kB"
    return Machine(
        cpu=read_proc_field(proc / "cpuinfo", "model name") or platform.machine() or "unknown",
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=int(memory.split()[0]) * 1024,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        reactor=type(reactor).__name__,
        packages=_package_versions(),
        open_files_limit=open_files_limit(),
        load_average=round(os.getloadavg()[0], 2),
    )


def read_proc_field(path: Path, name: str) -> str | None:
    """Return the first value of a `name: value` line; None if there is none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), None)


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def open_files_limit() -> int:
    """Return how many files a process may have open at most."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**30 if hard == resource.RLIM_INFINITY else hard
