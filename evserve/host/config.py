"""From a command line or a TOML file to the services to run, with their options parsed.

Every mistake is one line. It names the option, or the file, the table and the key.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.python.usage import Options, UsageError

from evserve.host.endpoints import Claim, EndpointError, endpoint_strings, parse_endpoint
from evserve.host.options import (
    LISTENING,
    LOOPBACK,
    Argument,
    ParentOptions,
    Schema,
    did_you_mean,
    parse_arguments,
    set_options,
    with_limit_options,
    with_listening_options,
)
from evserve.host.workers.messages import current_assignment
from evserve.interfaces import IServicePlugin, LoadedService
from evserve.plugin import Catalogue, PluginError, ServiceMakerPlugin, load


@frozen
class ServiceConfig:
    """A service to run: its name in this process, its plugin and its parsed options."""

    name: str
    plugin: IServicePlugin
    loaded: LoadedService
    options: Options


@frozen
class ServiceTable:
    """A `[services.NAME]` table: its plugin and its settings."""

    name: str
    plugin: str
    settings: Mapping[str, Any]
    location: str  # for messages: "evserve.toml: [services.NAME]"


@frozen
class ConfigFile:
    """The settings of the host and the tables of the services."""

    path: str
    host: Mapping[str, Any]
    services: tuple[ServiceTable, ...]


def service_from_arguments(
    name: str, words: list[str], listening: list[Argument], catalogue: Catalogue, host: Options
) -> tuple[ServiceConfig, list[Argument]]:
    """Parse the words after a service's name on the command line.

    listening: the listening options that stood before the name.  host: the host's options.
    Returns the service, and those options among `words` that belong to the host. Raises
    UsageError.
    """
    service = _load_service(name, name, catalogue, host)
    options = service.options
    with error_prefix(f"{name}:"):
        if hasattr(options, "subCommands"):
            # The words after its sub-command belong to that.
            arguments, positional = parse_arguments(words, [options], permute=False)
        else:
            # As for `twistd`, the words after the first that is no option belong to its plugin,
            # such as the options of the command that procmon runs.
            permute = not isinstance(service.plugin, ServiceMakerPlugin)
            arguments, positional = parse_arguments(words, [options, host], permute=permute)
        own: list[Argument] = []
        others: list[Argument] = []
        for argument in (*listening, *arguments):
            if argument[0] in options.synonyms:
                own.append(argument)
            elif argument[0] in LISTENING:  # the service does not listen
                raise UsageError(f"no such option --{argument[0]}")
            else:
                others.append(argument)
        try:
            set_options(options, own, positional)
        except UsageError as error:
            if "number of arguments" in str(error) and positional:
                raise UsageError(f"unexpected argument {positional[-1]!r}") from error
            raise
        _check_endpoints(service)
    return service, others


def service_from_table(table: ServiceTable, catalogue: Catalogue, host: Options) -> ServiceConfig:
    """Parse a `[services.NAME]` table; raises UsageError that names file, table and key."""
    with error_prefix(table.location):
        service = _load_service(table.name, table.plugin, catalogue, host)
        schema = Schema(service.options)
        settings, positional = dict(table.settings), []
        if "arguments" in settings and "arguments" not in schema.parameters:
            positional = _positional(settings.pop("arguments"))
        arguments = arguments_from_table(settings, schema)
        set_options(service.options, arguments, positional, message="{}: {}")
        if table.settings.get("listen") == []:
            raise UsageError("listen: no endpoint (remove the key to listen on the default port)")
        try:
            _check_endpoints(service)
        except EndpointError as error:
            raise UsageError(f"listen: {error}") from error
    return service


def _positional(value: object) -> list[str]:
    """Return the key `arguments`: the words of a command line that are no options."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"arguments: expected an array of strings, not {value!r}")
    return value


@contextmanager
def error_prefix(prefix: str) -> Iterator[None]:
    """Put `prefix` before the message of a UsageError or PluginError."""
    try:
        yield
    except (UsageError, PluginError) as error:
        raise UsageError(f"{prefix} {error}") from error


def _load_service(
    name: str, plugin_name: str, catalogue: Catalogue, host: Options
) -> ServiceConfig:
    try:
        plugin = catalogue.find(plugin_name)
    except KeyError:
        # What was refused, and has no name, may be why the service is not there.
        causes = [f"; {broken.cause}" for broken in catalogue.broken if not broken.name]
        hint = causes[0] if causes else did_you_mean(plugin_name, catalogue.services)
        hint = hint or " ('twistd -n evserve services' lists them)"
        raise UsageError(f"no service named {plugin_name!r}{hint}") from None
    try:
        loaded = load(plugin)
    except PluginError as error:
        raise PluginError(f"{plugin_name!r} cannot be used: {error}") from error
    make_options = loaded.options
    hosted = isinstance(plugin, ServiceMakerPlugin)
    if hosted:
        make_options = with_limit_options(make_options)
    elif plugin.listens:
        make_options = with_listening_options(make_options)
    options = make_options()
    options.parent = host
    if hosted and host.parent is not None:
        parent: Any = ParentOptions(host, plugin_name, options)
        options.parent = parent
    host.subCommand = plugin_name
    return ServiceConfig(name, plugin, loaded, options)


def _check_endpoints(service: ServiceConfig) -> None:
    """Raise UsageError on a bad endpoint, before any service starts."""
    if not service.plugin.listens or current_assignment() is not None:  # the supervisor did
        return
    reactor: Any
    from twisted.internet import reactor

    for endpoint in endpoint_strings(service.options):
        parse_endpoint(reactor, endpoint, service.options.get("interface", LOOPBACK))


def check_conflicts(services: list[ServiceConfig], admin: str | None) -> None:
    """Raise UsageError if two endpoints, that of the admin port included, ask for the same."""
    taken = [] if admin is None else [("admin", admin, Claim.of(admin, LOOPBACK))]
    for service in services:
        if not service.plugin.listens or current_assignment() is not None:
            continue
        interface = service.options.get("interface", LOOPBACK)
        for endpoint in endpoint_strings(service.options):
            claim = Claim.of(endpoint, interface)
            for name, other, earlier in taken:
                if claim.excludes(earlier):
                    raise UsageError(
                        f"{service.name}: {endpoint!r} is in use: {other!r} of {name}"
                    )
            taken.append((service.name, endpoint, claim))


def read_config(path: str) -> ConfigFile:
    """Read a TOML file; raises UsageError."""
    with error_prefix(f"{path or repr(path)}:"):
        content = _read_toml(path)
        for key, value in content.items():
            if key not in ("evserve", "services"):
                hint = did_you_mean(key, ("evserve", "services"))
                raise UsageError(f"unknown table [{_toml_key(key)}]{hint}")
            if not isinstance(value, dict):
                raise UsageError(f"{key} must be a table, [{key}]")
        services = content.get("services", {})
        if not services:
            raise UsageError("no services (add a table such as [services.echo])")
        tables = tuple(_read_table(path, name, settings) for name, settings in services.items())
    return ConfigFile(path, content.get("evserve", {}), tables)


def _read_toml(path: str) -> dict[str, Any]:
    try:
        # utf-8-sig: some editors write a byte order mark, which TOML does not allow.
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(error.strerror) from error
    except UnicodeDecodeError as error:
        raise UsageError("not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not valid TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # thousands of digits or brackets
        raise UsageError("not valid TOML: too long or too deep") from error


def _toml_key(key: str) -> str:
    """Return a key as TOML writes it: quoted unless its characters are plain."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _read_table(path: str, name: str, settings: object) -> ServiceTable:
    header = f"[services.{_toml_key(name)}]"
    if not (name.strip() and name.isprintable()):
        raise UsageError(f"{header} cannot be the name of a service")
    if not isinstance(settings, dict):
        raise UsageError(f"{header} must be a table")
    plugin = settings.get("plugin", name)
    if not isinstance(plugin, str):
        raise UsageError(f"{header} plugin: expected a string, not {plugin!r}")
    rest = {key: value for key, value in settings.items() if key != "plugin"}
    return ServiceTable(name, plugin, rest, f"{path}: {header}")


def arguments_from_table(settings: Mapping[str, Any], schema: Schema) -> list[Argument]:
    """Turn a table into command-line arguments; raises UsageError that names the key."""
    arguments: list[Argument] = []
    spelled: dict[str, str] = {}
    for key, value in settings.items():
        try:
            parameter = schema.get(key)
        except KeyError as unknown:
            raise UsageError(f"unknown key {key!r}{unknown.args[0]}") from None
        if parameter.name in spelled:
            raise UsageError(f"{key}: is the same key as {spelled[parameter.name]!r}")
        spelled[parameter.name] = key
        try:
            arguments += parameter.arguments(value)
        except ValueError as error:
            raise UsageError(f"{key}: {error}") from error
    return arguments
