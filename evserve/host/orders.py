"""Orders: the services that a command line or a config file asks for, options parsed."""

from typing import Any

from attrs import frozen
from twisted.python.usage import Options, UsageError

from evserve.host.config import Table, parse_table
from evserve.host.endpoints import endpoint_strings, parse_endpoint
from evserve.host.options import LISTENING, LOOPBACK, with_listening_options
from evserve.host.schema import Argument, Schema, argv, did_you_mean, scan
from evserve.host.workers import current_assignment
from evserve.interfaces import IServicePlugin, LoadedService
from evserve.plugin import Catalogue, PluginError, load


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
    # The supervisor of a worker has checked them already.
    if not order.plugin.listens or current_assignment() is not None:
        return
    reactor: Any
    from twisted.internet import reactor

    for endpoint in endpoint_strings(order.options):
        parse_endpoint(reactor, endpoint, order.options.get("interface", LOOPBACK))
