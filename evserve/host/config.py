"""The config file: TOML, checked against the options of the services it names.

Every mistake is one line that names the file, the table and the key.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.python.usage import Options, UsageError

from evserve.host.endpoints import endpoint_strings, parse_endpoint
from evserve.host.options import (
    LISTENING,
    LOOPBACK,
    Argument,
    Schema,
    argv,
    did_you_mean,
    scan,
    with_listening_options,
)
from evserve.host.workers.assignment import current
from evserve.interfaces import IServicePlugin, LoadedService
from evserve.plugin import Catalogue, PluginError, load


@frozen
class Table:
    """One `[services.NAME]` table: the plugin it asks for and its settings."""

    name: str
    plugin: str
    settings: Mapping[str, Any]
    where: str  # for messages: "evserve.toml: [services.NAME]"


@frozen
class Config:
    """A config file that was read: the host's settings and the services' tables."""

    path: str
    host: Mapping[str, Any]
    services: tuple[Table, ...]


def read_config(path: str) -> Config:
    """Read a TOML file; raises UsageError in one line."""
    content = _read_toml(path)
    for key, value in content.items():
        if key not in ("evserve", "services"):
            hint = did_you_mean(key, ("evserve", "services"))
            raise UsageError(f"{path}: unknown table [{_spelt(key)}]{hint}")
        if not isinstance(value, dict):
            raise UsageError(f"{path}: {key} must be a table, [{key}]")
    services = content.get("services", {})
    if not services:
        raise UsageError(f"{path}: no service: write a table such as [services.echo]")
    tables = tuple(_table(path, name, settings) for name, settings in services.items())
    return Config(path, content.get("evserve", {}), tables)


def _read_toml(path: str) -> dict[str, Any]:
    try:
        # utf-8-sig: some editors begin a file with a mark that TOML does not know.
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path or repr(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        raise UsageError(f"{path}: not valid TOML: too long or too deep") from error


def _spelt(key: str) -> str:
    """Return a key as TOML spells it: quoted unless it is of plain characters."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _table(path: str, name: str, settings: object) -> Table:
    where = f"{path}: [services.{_spelt(name)}]"
    if not (name.strip() and name.isprintable()):
        raise UsageError(f"{where} cannot be the name of a service")
    if not isinstance(settings, dict):
        raise UsageError(f"{where} must be a table")
    plugin = settings.get("plugin", name)
    if not isinstance(plugin, str):
        raise UsageError(f"{where} plugin: expected a string, not {plugin!r}")
    return Table(name, plugin, {k: v for k, v in settings.items() if k != "plugin"}, where)


def arguments_from(settings: Mapping[str, Any], schema: Schema, where: str) -> list[Argument]:
    """Turn a table into command-line arguments; raises UsageError naming table and key."""
    arguments: list[Argument] = []
    for key, value in settings.items():
        try:
            arguments += schema.get(key).arguments(value)
        except KeyError as unknown:
            raise UsageError(f"{where} unknown key {key!r}{unknown.args[0]}") from None
        except ValueError as error:
            raise UsageError(f"{where} {key}: {error}") from error
    return arguments


def parse_table(options: Options, settings: Mapping[str, Any], where: str) -> None:
    """Parse a table's settings into `options`; raises UsageError naming table and key."""
    schema = Schema(options)
    arguments = arguments_from(settings, schema, where)
    try:
        options.parseOptions(argv(arguments))
    except UsageError as error:
        key, reason = schema.blame(arguments) or ("", str(error))
        raise UsageError(" ".join(filter(None, (where, key and f"{key}:", reason)))) from error


@frozen
class Order:
    """A service to run: its name in this process, its plugin and its parsed options."""

    name: str
    plugin: IServicePlugin
    loaded: LoadedService
    options: Options


def order_from_words(
    name: str, words: list[str], listening: list[Argument], catalogue: Catalogue, root: Options
) -> tuple[Order, list[Argument]]:
    """Parse what stands after a service's name on the command line.

    Returns the order and those options among `words` that are the host's own.
    `listening` are the listening options that stood before the name. Raises UsageError.
    """
    order = _blank_order(name, name, catalogue, root)
    options = order.options
    try:
        theirs, ours, positional = _share_out(words, options, root)
        theirs = [*listening, *theirs]
        _refuse_listening([*listening, *ours], options)
        _parse(options, theirs, positional)
        _check_endpoints(order)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    return order, ours


def order_from_table(table: Table, catalogue: Catalogue, root: Options) -> Order:
    """Parse a `[services.NAME]` table; raises UsageError naming file, table and key."""
    try:
        order = _blank_order(table.name, table.plugin, catalogue, root)
    except (UsageError, PluginError) as error:
        raise UsageError(f"{table.where} {error}") from error
    parse_table(order.options, table.settings, table.where)
    try:
        _check_endpoints(order)
    except UsageError as error:
        raise UsageError(f"{table.where} {error}") from error
    return order


def _blank_order(name: str, plugin_name: str, catalogue: Catalogue, root: Options) -> Order:
    try:
        plugin = catalogue.find(plugin_name)
    except KeyError:
        raise UsageError(
            f"no service named {plugin_name!r}{_hint(plugin_name, catalogue)}"
        ) from None
    try:
        loaded = load(plugin)
    except PluginError as error:
        raise PluginError(f"{plugin_name!r} cannot be used: {error}") from error
    make_options = with_listening_options(loaded.options) if plugin.listens else loaded.options
    options = make_options()
    options.parent = root
    root.subCommand = plugin_name
    return Order(name, plugin, loaded, options)


def _hint(name: str, catalogue: Catalogue) -> str:
    """Say what may be meant by a service that is not there, or why its folder was refused."""
    for broken in catalogue.broken:
        if not broken.name:  # a whole folder
            return f"; {broken.cause}"
    near = did_you_mean(name, catalogue.services)
    return near or " ('twistd -n evserve services' lists them)"


def _share_out(
    words: list[str], options: Options, root: Options
) -> tuple[list[Argument], list[Argument], list[str]]:
    """Split `words` into the service's options, the host's options and positional arguments."""
    if hasattr(options, "subCommands"):
        # The words after a sub-command of its own are the sub-command's.
        arguments, positional = scan(words, [options], permute=False)
        return arguments, [], positional
    arguments, positional = scan(words, [options, root], permute=True)
    theirs = [each for each in arguments if each[0] in options.synonyms]
    return theirs, [each for each in arguments if each not in theirs], positional


def _refuse_listening(arguments: list[Argument], options: Options) -> None:
    for name, _ in arguments:
        if name in LISTENING and name not in options.synonyms:
            raise UsageError(f"it has no option --{name}")


def _parse(options: Options, arguments: list[Argument], positional: list[str]) -> None:
    try:
        options.parseOptions(argv(arguments, positional))
    except UsageError as error:
        blamed = Schema(options).blame(arguments)
        if blamed:
            raise UsageError(f"--{blamed[0]} {blamed[1]}") from error
        if "number of arguments" in str(error) and positional:
            raise UsageError(f"unexpected argument {positional[-1]!r}") from error
        raise


def _check_endpoints(order: Order) -> None:
    """Find bad endpoints now, while a mistake is still one line and nothing has started."""
    if not order.plugin.listens or current() is not None:  # a worker's parent has looked
        return
    reactor: Any
    from twisted.internet import reactor

    for endpoint in endpoint_strings(order.options):
        parse_endpoint(reactor, endpoint, order.options.get("interface", LOOPBACK))
