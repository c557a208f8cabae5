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

from evserve.host.schema import Argument, Schema, argv, did_you_mean


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
