"""Option classes: the options of every listening service, and how to read a `usage.Options`.

`Schema` describes what an option class accepts, for the command line and the config file alike.
`parse_arguments` is getopt with better messages.
"""

import difflib
import getopt
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from attrs import frozen
from twisted.python.reflect import accumulateClassList
from twisted.python.usage import Options, UsageError
from typing_extensions import override

from evserve.host.process import explain
from evserve.options import Duration, port_number, positive_integer, seconds


LOOPBACK = "127.0.0.1"  # the default interface


def address(text: str) -> str:
    """Return an address to listen on; not an empty one, which a socket binds to all interfaces."""
    if not text.isprintable() or not text.strip():
        raise ValueError("not an address (0.0.0.0 or :: for all interfaces)")
    return text


LIMIT_PARAMETERS: list[list[Any]] = [
    ["max-connections", None, None, "Maximum number of open connections", positive_integer],
    ["max-per-peer", None, None, "Maximum number of connections per address", positive_integer],
    ["idle-timeout", None, None, "Seconds after which an idle connection is closed", seconds],
]

LISTENING_PARAMETERS: list[list[Any]] = [
    ["port", None, None, "TCP port to listen on", port_number],
    [
        "interface",
        None,
        LOOPBACK,
        "Address to listen on (0.0.0.0 or :: for all interfaces)",
        address,
    ],
    *LIMIT_PARAMETERS,
]

LISTENING = {"listen", *(row[0] for row in LISTENING_PARAMETERS)}


def opt_listen(self: Options, endpoint: str) -> None:
    """Twisted endpoint to listen on, such as tcp:9000 or unix:/run/echo (repeatable)"""  # noqa: D400 - shown by --help
    self.opts.setdefault("listen", []).append(endpoint)


def with_listening_options(options: Callable[[], Options]) -> Callable[[], Options]:
    """Return a service's option class with the listening options added.

    Options that the service defines itself stay. Its class attribute `default_port` is the port if
    the user names neither a port nor an endpoint.
    """
    if not isinstance(options, type):
        return options
    own = {row[0] for row in _parameters(options)}
    added: dict[str, Any] = {
        "optParameters": [list(row) for row in LISTENING_PARAMETERS if row[0] not in own]
    }
    default = getattr(options, "default_port", None)
    if default is not None and "port" not in own:
        added["optParameters"][0][3] += f" [default: {default}]"
    if not hasattr(options, "opt_listen"):
        added["opt_listen"] = opt_listen
    return type(options.__name__, (options,), {"__doc__": options.__doc__, **added})


def with_limit_options(options: Callable[[], Options]) -> Callable[[], Options]:
    """Return the option class of a `twistd` plugin with the limits added that it has not itself.

    Its class attribute `limit_options` names those that were added.
    """
    if not isinstance(options, type):
        return options
    own = {long.rstrip("=") for long in options().longOpt}
    added = [list(row) for row in LIMIT_PARAMETERS if row[0] not in own]
    attributes = {
        "__doc__": options.__doc__,
        "__module__": options.__module__,
        "optParameters": added,
        "limit_options": [row[0] for row in added],
    }
    return type(options.__name__, (options,), attributes)


class ParentOptions(MutableMapping[str, Any]):
    """The options of `twistd` as the options of a `twistd` plugin see them: their parent.

    What the plugin sets reaches `twistd`. Only `subCommand` and `subOptions` are the plugin's own,
    as if `twistd` had been given its name, and not that of evserve.
    """

    def __init__(self, host: Options, name: str, options: Options) -> None:
        vars(self).update(_host=host, subCommand=name, subOptions=options)

    @property
    def _twistd(self) -> Any:
        return vars(self)["_host"].parent

    @property  # type: ignore[misc]  # for isinstance(parent, usage.Options)
    @override
    def __class__(self) -> type:
        return type(self._twistd)

    @override
    def __getitem__(self, key: str) -> Any:
        return self._twistd[key]

    @override
    def __setitem__(self, key: str, value: Any) -> None:
        self._twistd[key] = value

    @override
    def __delitem__(self, key: str) -> None:
        del self._twistd[key]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._twistd)

    @override
    def __len__(self) -> int:
        return len(self._twistd)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._twistd, name)

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            vars(self)[name] = value
        else:
            setattr(self._twistd, name, value)

    __hash__ = object.__hash__

    @override
    def __str__(self) -> str:
        return str(self._twistd)

    def getSynopsis(self) -> str:
        """Return the words before the plugin's name in `--help`, which are those of evserve."""
        synopsis: str = vars(self)["_host"].getSynopsis()
        return synopsis


@frozen
class Limits:
    """The limits of a listening service; None is no limit."""

    max_connections: int | None = None
    max_per_peer: int | None = None
    idle_timeout: float | None = None  # seconds

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Limits":
        """Return the limits in a service's parsed options."""
        get = options.get
        return cls(get("max-connections"), get("max-per-peer"), get("idle-timeout") or None)


Argument = tuple[str, str | None]  # an option's name, and its value unless it is a flag

# What a TOML table may hold for an option whose parser returns this type. An option without a
# parser takes anything that can be typed on a command line.
_TOML_TYPES: dict[object, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (float, int)),
    str: ("a string", (str,)),
    Duration: ("a duration (such as 7d)", (str, float, int)),
}


@frozen
class Parameter:
    """One option: `parse` is its parser, `takes_value` is False for a flag."""

    name: str
    takes_value: bool
    repeatable: bool
    parse: Callable[[str], Any] | None = None

    def arguments(self, value: object) -> list[Argument]:
        """Turn a TOML value into command-line arguments; raises ValueError on a wrong type."""
        if not self.takes_value:
            if not isinstance(value, bool):
                raise ValueError(f"expected true or false, not {value!r}")
            return [(self.name, None)] if value else []
        if self.repeatable and isinstance(value, list):
            return [argument for each in value for argument in self.arguments(each)]
        if self.parse is None or isinstance(self.parse, type):
            result: object = self.parse
        else:
            result = typing.get_type_hints(self.parse).get("return")
        expected, allowed = _TOML_TYPES.get(result, ("a string", (str, int, float)))
        if isinstance(value, bool) or not isinstance(value, allowed):
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            raise ValueError(f"expected {expected}, not {shown}")
        return [(self.name, str(value))]

    def check(self, value: str | None) -> None:
        """Raise ValueError if the parser refuses `value`."""
        if self.parse is None or value is None:
            return
        try:
            self.parse(value)
        except (ValueError, UsageError) as error:
            raise ValueError(f"{value!r}: {error}") from error


class Schema:
    """The options that an instance of an option class accepts, by name, except for `exclude`."""

    def __init__(self, options: Options, exclude: Iterable[str] = ()) -> None:
        excluded = {"help", "version", *exclude}  # those two act at once and are no settings
        parsers = {row[0]: row[4] for row in _parameters(type(options))}
        self.parameters = {
            name: Parameter(name, long.endswith("="), name not in parsers, parsers.get(name))
            for long in options.longOpt
            if (name := long.rstrip("=")) not in excluded
        }

    def get(self, name: str) -> Parameter:
        """Return the option `name`; raises KeyError with a hint, which may be empty."""
        for spelling in (name, name.replace("_", "-")):
            if spelling in self.parameters:
                return self.parameters[spelling]
        raise KeyError(did_you_mean(name, self.parameters))


def _parameters(options: type[Options]) -> list[list[Any]]:
    """Return the `optParameters` rows of an option class and its bases, five columns each."""
    rows: list[Any] = []
    accumulateClassList(options, "optParameters", rows)
    return [[*row, None, None, None, None][:5] for row in rows]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" if a known name is similar, else an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def parse_arguments(
    words: list[str], classes: list[Options], *, permute: bool, unknown_hint: str = ""
) -> tuple[list[Argument], list[str]]:
    """Split a command line into options and positional arguments by getopt's rules.

    permute: options may also stand after positional arguments.  unknown_hint: appended to the
    message about an option that is similar to none. Raises UsageError.
    """
    shorts = "".join(each.shortOpt for each in classes)
    longs = list(dict.fromkeys(long for each in classes for long in each.longOpt))
    read = getopt.gnu_getopt if permute else getopt.getopt
    try:
        pairs, positional = read(words, shorts, longs)
    except getopt.GetoptError as error:
        hint = ""
        if "not recognized" in error.msg:
            known = [long.rstrip("=") for long in longs]
            hint = did_you_mean(error.opt, known) or unknown_hint
        raise UsageError(f"{error.msg}{hint}") from error
    takes_value = {long.rstrip("=") for long in longs if long.endswith("=")}
    arguments: list[Argument] = []
    for word, value in pairs:
        name = word.lstrip("-")
        flag = name not in takes_value if word.startswith("--") else f"{name}:" not in shorts
        arguments.append((name, None if flag else value))
    return arguments, positional


def set_options(
    options: Options,
    arguments: list[Argument],
    positional: Iterable[str] = (),
    *,
    message: str | None = None,
    parse: Callable[[list[str]], object] | None = None,
) -> None:
    """Parse arguments into `options` by its `parseOptions`, or `parse`; raises UsageError.

    message: for an invalid value, if it is not from a command line; formatted with the option's
    name and the problem, because usage.Options does not name the option.
    """
    try:
        (parse or options.parseOptions)(format_arguments(arguments, positional))
    except UsageError as error:
        parameters = Schema(options).parameters
        for name, value in arguments:
            try:
                parameters[options.synonyms[name]].check(value)
            except ValueError as problem:
                said = f"{dashed(name)} {problem}"
                raise UsageError(message.format(name, problem) if message else said) from error
        raise
    except OSError:  # --help into a closed pipe: the command ends without a word
        raise
    except Exception as error:  # from a method of the plugin's options
        raise UsageError(explain(error)) from error


def dashed(name: str) -> str:
    """Return an option as on a command line, such as `--port` or `-p`."""
    return f"--{name}" if len(name) > 1 else f"-{name}"


def format_arguments(arguments: Iterable[Argument], positional: Iterable[str] = ()) -> list[str]:
    """Return options and positional arguments as a command line: parse_arguments reversed."""
    words: list[str] = []
    for name, value in arguments:
        if value is None:
            words.append(dashed(name))
        elif len(name) > 1:
            words.append(f"{dashed(name)}={value}")
        else:
            words += [dashed(name), value]
    rest = list(positional)
    return [*words, "--", *rest] if rest else words
