"""`twistd -n evserve`: the host's options, and the service tree they ask for.

This module is imported before anything is known about the command line, so it imports neither the
reactor nor what runs services; `makeService` does.
"""

import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import twisted
from attrs import evolve
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage
from typing_extensions import override

from evserve import __version__
from evserve.host.config import (
    ServiceConfig,
    arguments_from_table,
    check_conflicts,
    error_prefix,
    read_config,
    service_from_arguments,
    service_from_table,
)
from evserve.host.endpoints import valid_endpoint
from evserve.host.options import (
    LISTENING,
    LISTENING_PARAMETERS,
    Argument,
    Schema,
    dashed,
    opt_listen,
    parse_arguments,
    set_options,
)
from evserve.host.plugins import add_current_folder, add_plugin_folder
from evserve.host.process import check_paths, exit_without_traceback, open_standard_descriptors
from evserve.host.reactor import DefaultReactor
from evserve.host.signals import hold_signals, ignore_job_control
from evserve.host.workers.messages import current_assignment
from evserve.options import choice, positive_integer, seconds
from evserve.plugin import (
    Catalogue,
    FoundService,
    PluginError,
    ServiceMakerPlugin,
    ServicePlugin,
    discover,
)


DEFAULT_SERVICE = "echo"
SERVICES = ServicePlugin(
    "services", "evserve.host.plugins", "List the installed services.", listens=False
)
_WITHOUT_REACTOR = {"check", "help", "version"}  # with these, the process ends before it has one
_BEFORE_SERVICE = {"config", "plugin-dir", "no-cwd-plugins"}  # they decide which services exist
_log = Logger()


class Options(usage.Options):
    """The host's options; those after the name of a service belong to the service."""

    longdesc = (
        "Without SERVICE and --config, runs an echo server. Options may also stand after SERVICE; "
        "'twistd -n evserve SERVICE --help' shows the options of the service."
    )
    optFlags = [
        ["check", None, "Check the command line or the config file, then exit"],
        ["no-cwd-plugins", None, "Ignore ./twisted/plugins of the current folder"],
    ]
    optParameters = [
        [
            "admin",
            None,
            None,
            "Endpoint of the status page and the metrics, such as tcp:9100",
            valid_endpoint,
        ],
        ["config", "c", None, "TOML file of services to run in one process"],
        ["drain", None, 10.0, "Seconds to wait for work in flight when stopping", seconds],
        [
            "log-format",
            None,
            "text",
            "text or json (one JSON object per line)",
            choice("text", "json"),
        ],
        ["workers", None, None, "Number of processes that share the ports", positive_integer],
        *LISTENING_PARAMETERS,
    ]
    opt_listen = opt_listen

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["plugin-dir"] = []
        self.services: list[ServiceConfig] = []
        self.reactor = DefaultReactor()

    def opt_plugin_dir(self, folder: str) -> None:
        """Additional folder of plugin files (repeatable)"""  # noqa: D400 - shown by --help
        try:
            add_plugin_folder(folder)
        except PluginError as error:
            raise usage.UsageError(f"plugin-dir: {error}") from error
        self["plugin-dir"].append(folder)

    def opt_version(self) -> None:
        """Show the versions of evserve and Twisted, then exit"""  # noqa: D400 - shown by --help
        print(f"evserve {__version__} (Twisted {twisted.__version__})")
        raise SystemExit(0)

    @property
    def synopsis(self) -> str:
        """The usage line after `evserve`; Twisted appends that of the service."""
        return "[options]" if self.subCommand else "[options] [SERVICE [options of the service]]"

    @property
    def subCommands(self) -> Iterator[tuple[str, None, Any, str]]:
        """The services, for `--help`; a property, so that discovery does not run at import."""
        for name, found in self.catalogue.services.items():
            yield name, None, None, found.plugin.description

    @cached_property
    def catalogue(self) -> Catalogue:
        """The plugins in the folders that the options name."""
        refused = () if self["no-cwd-plugins"] else add_current_folder()
        found = discover()
        services = found.services | {SERVICES.name: FoundService(SERVICES, __file__)}
        broken = (*refused, *found.broken)
        return evolve(found, services=dict(sorted(services.items())), broken=broken)

    @override
    def parseOptions(self, options: list[str] | None = None) -> None:
        hold_signals()
        open_standard_descriptors()
        with exit_without_traceback():
            try:
                self._parse(sys.argv[1:] if options is None else list(options))
                self._settle_twistd()
            except (usage.UsageError, PluginError) as error:
                raise SystemExit(f"evserve: {error}") from None
            finally:
                self.reactor.settle()
            if self["check"]:
                names = ", ".join(service.name for service in self.services)
                print(f"{self['config'] or 'command line'}: OK ({names})")
                raise SystemExit(0)

    def _parse(self, words: list[str]) -> None:
        hint = " (the options of a service stand after its name)"
        given, rest = parse_arguments(words, [self], permute=False, unknown_hint=hint)
        own = [argument for argument in given if argument[0] not in LISTENING]
        if [self.synonyms[name] for name, _ in own].count("config") > 1:
            raise usage.UsageError("--config: given twice (one file names all services)")
        listening = [argument for argument in given if argument[0] in LISTENING]
        # Before a plugin file or a service's module is imported, which may import the reactor.
        ends = not _WITHOUT_REACTOR.isdisjoint(self.synonyms[name] for name, _ in own)
        if not ends and rest[:1] != [SERVICES.name]:
            self.reactor.install(self.parent)
        self._apply(own)  # before discovery, which needs --plugin-dir
        if self["config"] is None:
            workers_location = "--workers"
            name, *after = rest or [DEFAULT_SERVICE]
            service, late = service_from_arguments(name, after, listening, self.catalogue, self)
            for option, _ in late:
                if self.synonyms[option] in _BEFORE_SERVICE:
                    raise usage.UsageError(f"--{self.synonyms[option]} must stand before {name!r}")
            self._apply(late)
            self.services = [service]
            check_conflicts(self.services, self["admin"])
        else:
            extra = [*rest, *(dashed(name) for name, _ in listening)]
            if extra:
                raise usage.UsageError(f"--config names the services to run (remove {extra[0]})")
            workers_location = self._read_config(own)
            self._check_alone()
        if self["workers"]:
            twistd: dict[str, Any] = self.parent or {}
            if twistd.get("chroot"):
                raise usage.UsageError(f"{workers_location}: workers cannot start in a --chroot")
            from evserve.host.workers.roles import check_shareable

            check_shareable(self.services, workers_location)

    def _read_config(self, own: list[Argument]) -> str:
        """Read the config file; return where `workers` is set, for messages."""
        config = read_config(self["config"])
        location = f"{config.path}: [evserve]"
        with error_prefix(location):
            for key in config.host:
                if key in LISTENING:
                    raise usage.UsageError(f"{key}: belongs in a [services.NAME] table")
            schema = Schema(self, exclude=("config", "check"))
            self._apply(arguments_from_table(config.host, schema), "{}: {}")
        self._apply(own)  # again, because the command line overrides the file
        self.services = [
            service_from_table(table, self.catalogue, self) for table in config.services
        ]
        with error_prefix(f"{config.path}:"):
            check_conflicts(self.services, self["admin"])
        on_command_line = any(self.synonyms[name] == "workers" for name, _ in own)
        return "--workers" if on_command_line else f"{location} workers"

    def _check_alone(self) -> None:
        """Raise UsageError if a service among several needs the process for itself.

        A class attribute `alone_in_process` of its Options names the options with which it does.
        """
        for config in self.services if len(self.services) > 1 else ():
            for name in getattr(config.options, "alone_in_process", ()):
                if config.options[name]:
                    where = f"{self['config']}: [services.{config.name}] {name}"
                    raise usage.UsageError(f"{where}: needs a process without other services")

    def _apply(self, arguments: list[Argument], message: str | None = None) -> None:
        set_options(self, arguments, message=message, parse=super().parseOptions)

    def _settle_twistd(self) -> None:
        """Adapt the options of `twistd`, after services that are its plugins have seen them."""
        twistd: dict[str, Any] = self.parent or {}
        if twistd.get("nodaemon") and twistd.get("pidfile") == "twistd.pid":
            twistd["pidfile"] = ""  # the default: two servers may run in one folder
        if current_assignment() is None:
            check_paths(twistd)
        else:
            from evserve.host.workers.worker import set_worker_options

            set_worker_options(twistd, self)


def makeService(options: Options) -> IService:
    """Build the service tree that the options ask for."""
    with exit_without_traceback():
        from twisted.internet import reactor

        from evserve.host.application import add_services
        from evserve.host.workers.roles import choose_role

        root, services = choose_role(options, options.services, reactor)
        add_services(services, root)
        is_server = any(
            each.plugin.listens or isinstance(each.plugin, ServiceMakerPlugin)
            for each in options.services
        )
        if is_server:
            ignore_job_control()
        if current_assignment() is None:  # the supervisor does this for its workers
            if is_server:  # the output of a job stays short
                if options.reactor.problem:
                    _log.warn("reactor: {problem}", problem=options.reactor.problem)
                for broken in options.catalogue.broken:
                    _log.warn(
                        "plugin left out: {path}: {cause}", path=broken.path, cause=broken.cause
                    )
            if options["admin"] is not None:
                from evserve.host.admin.service import make_admin

                root.admin = make_admin(options["admin"], options.services, root)
        return root
