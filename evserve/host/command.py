"""`twistd -n evserve`: from a command line to the services it asks for."""

import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import twisted
from attrs import evolve
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from evserve import __version__
from evserve.host.admin.options import admin_endpoint
from evserve.host.config import (
    Order,
    arguments_from,
    order_from_table,
    order_from_words,
    read_config,
)
from evserve.host.logs import log_format
from evserve.host.options import (
    LISTENING,
    LISTENING_PARAMETERS,
    Argument,
    Schema,
    argv,
    opt_listen,
    positive_number,
    scan,
    seconds,
)
from evserve.host.plugins import add_current_folder, add_plugin_folder
from evserve.host.process import check_places, ending_quietly, hold_standard_descriptors
from evserve.host.workers.assignment import become_worker, current
from evserve.host.workers.rules import check_shareable
from evserve.plugin import (
    Catalogue,
    Found,
    PluginError,
    ServiceMakerPlugin,
    ServicePlugin,
    discover,
)


DEFAULT_SERVICE = "echo"
SERVICES = ServicePlugin(
    "services", "evserve.host.plugins", "List the services that are installed.", listens=False
)
BEFORE_SERVICE = {"config", "plugin-dir", "no-cwd-plugins"}  # they say which services there are
_log = Logger()


class Options(usage.Options):
    """The host's options; what stands after the name of a service belongs to the service."""

    longdesc = (
        "Without SERVICE and --config it is an echo server. Options may also stand after SERVICE; "
        "'twistd -n evserve SERVICE --help' shows those of the service."
    )
    optFlags = [
        ["check", None, "Check the command line or the config file, then exit"],
        ["no-cwd-plugins", None, "Leave out ./twisted/plugins of the current folder"],
    ]
    optParameters = [
        [
            "admin",
            None,
            None,
            "Serve a status page and metrics here, e.g. tcp:9100",
            admin_endpoint,
        ],
        ["config", "c", None, "Run the services of this TOML file, in one process"],
        ["drain", None, 10.0, "Seconds that work in flight gets to finish when stopping", seconds],
        ["log-format", None, "text", "text or json (one JSON object a line)", log_format],
        ["workers", None, None, "Share the ports among this many processes", positive_number],
        *LISTENING_PARAMETERS,
    ]
    opt_listen = opt_listen

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["plugin-dir"] = []
        self.orders: list[Order] = []

    def opt_plugin_dir(self, folder: str) -> None:
        """Also look for plugin files in this folder (may be repeated)"""  # noqa: D400 - shown by --help
        try:
            add_plugin_folder(folder)
        except PluginError as error:
            raise usage.UsageError(f"plugin-dir: {error}") from error
        self["plugin-dir"].append(folder)

    def opt_version(self) -> None:
        """Show the versions of evserve and Twisted, then exit"""  # noqa: D400 - likewise
        print(f"evserve {__version__} (Twisted {twisted.__version__})")
        raise SystemExit(0)

    @property
    def synopsis(self) -> str:
        """The usage line after `evserve`; that of a service goes on with its name."""
        return "[options]" if self.subCommand else "[options] [SERVICE [options of the service]]"

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        """The services, for `--help`; a property, so that nothing is discovered at import."""
        for name, found in self.catalogue.services.items():
            yield name, None, None, found.plugin.description

    @cached_property
    def catalogue(self) -> Catalogue:
        """The plugins that can be seen with the folders asked for."""
        refused = () if self["no-cwd-plugins"] else add_current_folder()
        found = discover()
        services = found.services | {SERVICES.name: Found(SERVICES, __file__)}
        broken = (*refused, *found.broken)
        return evolve(found, services=dict(sorted(services.items())), broken=broken)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse the command line; a mistake ends the process with one line and status 1."""
        hold_standard_descriptors()
        with ending_quietly():
            self._parse_all(sys.argv[1:] if options is None else list(options))

    def _parse_all(self, words: list[str]) -> None:
        try:
            self._parse(words)
        except (usage.UsageError, PluginError) as error:
            raise SystemExit(f"evserve: {error}") from None
        if self["check"]:
            names = ", ".join(order.name for order in self.orders)
            print(f"{self['config'] or 'command line'}: OK ({names})")
            raise SystemExit(0)

    def _parse(self, words: list[str]) -> None:
        hint = " (the options of a service stand after its name)"
        given, rest = scan(words, [self], permute=False, otherwise=hint)
        own = [argument for argument in given if argument[0] not in LISTENING]
        listening = [argument for argument in given if argument[0] in LISTENING]
        self._apply(own)  # before the services: --plugin-dir says which there are
        if self["config"] is None:
            name, *after = rest or [DEFAULT_SERVICE]
            order, more = order_from_words(name, after, listening, self.catalogue, self)
            self._refuse_late(more, name)
            self._apply(more)
            self.orders = [order]
            self._check_workers("--workers")
        else:
            self._read_config(own, [*rest, *(f"--{name}" for name, _ in listening)])

    def _refuse_late(self, arguments: list[Argument], service: str) -> None:
        for name, _ in arguments:
            if self.synonyms[name] in BEFORE_SERVICE:
                raise usage.UsageError(f"--{self.synonyms[name]} must stand before {service!r}")

    def _read_config(self, own: list[Argument], extra: list[str]) -> None:
        if extra:
            raise usage.UsageError(f"--config says which services run: leave out {extra[0]}")
        config = read_config(self["config"])
        where = f"{config.path}: [evserve]"
        for key in config.host:
            if key in LISTENING:
                raise usage.UsageError(f"{where} {key}: belongs into a [services.NAME] table")
        schema = Schema(self).without({"config", "check"})
        self._apply(arguments_from(config.host, schema, where), where)
        self._apply(own)  # again: the command line outranks the file
        self.orders = [order_from_table(each, self.catalogue, self) for each in config.services]
        asked_here = any(self.synonyms[name] == "workers" for name, _ in own)
        self._check_workers("--workers" if asked_here else f"{where} workers")

    def _check_workers(self, where: str) -> None:
        if self["workers"]:
            check_shareable(self.orders, where)

    def _apply(self, arguments: list[Argument], where: str = "") -> None:
        try:
            usage.Options.parseOptions(self, argv(arguments))
        except usage.UsageError as error:
            name, reason = Schema(self).blame(arguments) or ("", str(error))
            key = f"{name}:" if where else f"--{name}"
            raise usage.UsageError(
                " ".join(filter(None, (where, name and key, reason)))
            ) from error

    def postOptions(self) -> None:
        """Leave no pidfile behind `-n`, so that two servers run in one folder."""
        twistd: dict[str, Any] = self.parent or {}
        if twistd.get("nodaemon") and twistd.get("pidfile") == "twistd.pid":
            twistd["pidfile"] = ""
        if current() is None:
            check_places(twistd)
        else:
            become_worker(twistd, self)


def makeService(options: Options) -> IService:
    """Build the service tree that the options ask for."""
    with ending_quietly():
        return _tree(options)


def _tree(options: Options) -> IService:
    from twisted.internet import reactor

    from evserve.host.admin.service import make_admin
    from evserve.host.application import build_tree
    from evserve.host.workers.roles import root_and_orders

    root, orders = root_and_orders(options, options.orders, reactor)
    build_tree(orders, root)
    if current() is None:  # the parent of workers speaks for them
        _warn_of_broken_plugins(options)
        if options["admin"] is not None:
            root.admin = make_admin(options["admin"], options.orders, root)
    return root


def _warn_of_broken_plugins(options: Options) -> None:
    """Log what was left out, for a server; a job's standard error is read by people in a hurry."""
    if any(
        each.plugin.listens or isinstance(each.plugin, ServiceMakerPlugin)
        for each in options.orders
    ):
        for broken in options.catalogue.broken:
            _log.warn("plugin left out: {path}: {cause}", path=broken.path, cause=broken.cause)
