"""The options that every listening service takes, under the same names everywhere."""

import difflib
import getopt
import math
import re
import typing
from collections.abc import Callable, Collection, Iterable
from typing import Any, Self

from attrs import define, field, frozen
from twisted.python.reflect import accumulateClassList
from twisted.python.usage import Options, UsageError


MAX_PORT = 65535


def port_number(text: str) -> int:
    """Return a TCP or UDP port; 0 lets the system choose."""
    if not (re.fullmatch(r"\d{1,5}", text, re.ASCII) and int(text) <= MAX_PORT):
        raise ValueError(f"not a port number (0 to {MAX_PORT})")
    return int(text)


def address(text: str) -> str:
    """Return an address to listen on; an empty one would mean every interface to a socket."""
    if not text.isprintable() or not text.strip():
        raise ValueError("not an address (0.0.0.0 or :: for every one)")
    return text


def positive_number(text: str) -> int:
    """Return a count of at least 1."""
    if not re.fullmatch(r"0*[1-9]\d{0,17}", text, re.ASCII):
        raise ValueError("not a whole number above 0")
    return int(text)


def seconds(text: str) -> float:
    """Return a duration in seconds, 0 or more."""
    number = re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII)
    if not (number and math.isfinite(float(text))):  # hundreds of digits make an infinity
        raise ValueError("not a number of seconds (such as 2 or 0.5)")
    return float(text)


LOOPBACK = "127.0.0.1"  # where servers listen unless told otherwise

PORT: list[Any] = ["port", None, None, "Listen on this TCP port of --interface", port_number]

LISTENING_PARAMETERS: list[list[Any]] = [
    PORT,
    ["interface", None, LOOPBACK, "Address to listen on; 0.0.0.0 or :: for every one", address],
    ["max-connections", None, None, "Refuse clients beyond this many", positive_number],
    ["max-per-peer", None, None, "Refuse an address beyond this many clients", positive_number],
    ["idle-timeout", None, None, "Close connections silent for this many seconds", seconds],
]

LISTENING = {"listen", *(row[0] for row in LISTENING_PARAMETERS)}


def opt_listen(self: Options, endpoint: str) -> None:
    """Listen on a Twisted endpoint, such as tcp:9000 or unix:/run/echo (may be repeated)"""  # noqa: D400 - shown by --help
    self.opts.setdefault("listen", []).append(endpoint)


@frozen
class Limits:
    """What a listening service allows; None is no limit."""

    max_connections: int | None = None
    max_per_peer: int | None = None
    idle_timeout: float | None = None  # seconds

    @classmethod
    def of(cls, options: Options) -> "Limits":
        """Read the limits out of a service's parsed options."""
        get = options.get
        return cls(get("max-connections"), get("max-per-peer"), get("idle-timeout") or None)


def parameters_of(options: type[Options]) -> list[list[Any]]:
    """Return the `optParameters` rows of an option class and its bases, five columns each."""
    rows: list[Any] = []
    accumulateClassList(options, "optParameters", rows)
    return [[*row, None, None, None, None][:5] for row in rows]


def with_listening_options(options: Callable[[], Options]) -> Callable[[], Options]:
    """Return a service's option class with the listening options added.

    What the service defines under the same name stays as it is. A class attribute `default_port`
    says where it listens when nobody does.
    """
    if not isinstance(options, type):
        return options
    taken = {row[0] for row in parameters_of(options)}
    port = list(PORT)
    default = getattr(options, "default_port", None)
    if default is not None:
        port[3] = f"{port[3]} [default: {default}]"
    rows = [port, *LISTENING_PARAMETERS[1:]]
    added: dict[str, Any] = {"optParameters": [row for row in rows if row[0] not in taken]}
    if not hasattr(options, "opt_listen"):
        added["opt_listen"] = opt_listen
    return type(options.__name__, (options,), {"__doc__": options.__doc__, **added})


_ACTS = ("help", "version")  # what is done at once and cannot be a setting

Argument = tuple[str, str | None]  # an option's name and, unless it is a flag, its value

# What the config file must hold for an option that is coerced to a type. An option without a type
# takes whatever could have been typed on a command line.
_TOML_TYPES: dict[object, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (float, int)),
    str: ("a string", (str,)),
}


@frozen
class Parameter:
    """One option: `convert` is its coercion, `takes_value` is False for a flag."""

    name: str
    takes_value: bool
    repeatable: bool
    convert: Callable[[str], Any] | None = None

    def arguments(self, value: object) -> list[Argument]:
        """Turn a TOML value into command-line arguments; raises ValueError on a wrong type."""
        if not self.takes_value:
            if not isinstance(value, bool):
                raise ValueError(f"expected true or false, not {_shown(value)}")
            return [(self.name, None)] if value else []
        if self.repeatable and isinstance(value, list):
            return [argument for each in value for argument in self.arguments(each)]
        wanted, allowed = _TOML_TYPES.get(self._target(), ("a string", (str, int, float)))
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise ValueError(f"expected {wanted}, not {_shown(value)}")
        return [(self.name, str(value))]

    def _target(self) -> object:
        """Return the type that the coercion is, or is annotated to return."""
        if self.convert is None or isinstance(self.convert, type):
            return self.convert
        return typing.get_type_hints(self.convert).get("return")

    def check(self, value: str | None) -> None:
        """Raise ValueError if the coercion refuses `value`."""
        if self.convert is None or value is None:
            return
        try:
            self.convert(value)
        except (ValueError, UsageError) as error:
            raise ValueError(f"{value!r}: {error}") from error


@define
class Schema:
    """The options of one service, by name."""

    options: Options
    parameters: dict[str, Parameter] = field(init=False)

    def __attrs_post_init__(self) -> None:
        coercions = {row[0]: row[4] for row in parameters_of(type(self.options))}
        self.parameters = {}
        for long in self.options.longOpt:
            name = long.rstrip("=")
            if name in _ACTS:
                continue
            self.parameters[name] = Parameter(
                name, long.endswith("="), name not in coercions, coercions.get(name)
            )

    def without(self, names: Collection[str]) -> Self:
        """Forget some options, which may not be set here; returns this schema."""
        self.parameters = {k: v for k, v in self.parameters.items() if k not in names}
        return self

    def get(self, name: str) -> Parameter:
        """Return the option `name`; raises KeyError with the nearest valid name, if any."""
        for spelling in (name, name.replace("_", "-")):
            if spelling in self.parameters:
                return self.parameters[spelling]
        raise KeyError(did_you_mean(name, self.parameters))

    def blame(self, arguments: Iterable[Argument]) -> tuple[str, str] | None:
        """Return the first option whose value is refused, and why; None if all are accepted."""
        for name, value in arguments:
            try:
                self.parameters[self.options.synonyms[name]].check(value)
            except ValueError as error:
                return name, str(error)
        return None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" if a known name is near, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def argv(arguments: Iterable[Argument], positional: Iterable[str] = ()) -> list[str]:
    """Spell options, then positional arguments, as a command line that getopt reads back."""
    spelt: list[str] = []
    for name, value in arguments:
        dashed = f"--{name}" if len(name) > 1 else f"-{name}"
        if value is None:
            spelt.append(dashed)
        elif len(name) > 1:
            spelt.append(f"{dashed}={value}")
        else:
            spelt += [dashed, value]
    rest = list(positional)
    return [*spelt, "--", *rest] if rest else spelt


def scan(
    words: list[str], schemas: list[Options], *, permute: bool, otherwise: str = ""
) -> tuple[list[Argument], list[str]]:
    """Split a command line into options and positional arguments by getopt's rules.

    permute: options may also stand after positional arguments.  otherwise: what to add about an
    option that resembles none. Raises UsageError.
    """
    shorts = "".join(each.shortOpt for each in schemas)
    longs = list(dict.fromkeys(long for each in schemas for long in each.longOpt))
    read = getopt.gnu_getopt if permute else getopt.getopt
    try:
        pairs, positional = read(words, shorts, longs)
    except getopt.GetoptError as error:
        known = [long.rstrip("=") for long in longs]
        unknown = "not recognized" in error.msg
        hint = did_you_mean(error.opt, known) or otherwise if unknown else ""
        raise UsageError(f"{error.msg}{hint}") from error
    takes_value = {long.rstrip("=") for long in longs if long.endswith("=")}
    arguments: list[Argument] = []
    for dashed, value in pairs:
        name = dashed.lstrip("-")
        flag = name not in takes_value if dashed.startswith("--") else f"{name}:" not in shorts
        arguments.append((name, None if flag else value))
    return arguments, positional


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
