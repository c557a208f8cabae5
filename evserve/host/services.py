"""`twistd -n evserve services`: what is installed, from which file, or why it cannot be used."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from evserve.host.plugins import current_folder
from evserve.host.process import ending_quietly
from evserve.interfaces import IHost
from evserve.plugin import Broken, Catalogue, PluginError, load


class Options(usage.Options):
    """No options of its own."""


def makeService(options: Options, host: IHost) -> IService:
    """Print the table and end: there is nothing to serve."""
    host_options: Any = options.parent
    with ending_quietly():  # what reaches the host as an error is blamed on this service
        print("\n".join(table(host_options.catalogue)))
    raise SystemExit(0)


def table(catalogue: Catalogue) -> Iterator[str]:
    """Yield a line for each service, each handler, and each plugin that cannot be used."""
    width = max(map(len, (*catalogue.services, *catalogue.handlers)), default=0)
    broken = list(catalogue.broken)
    for name, found in catalogue.services.items():
        try:
            load(found.plugin)
        except PluginError as error:
            broken.append(Broken(name, found.path, str(error)))
        else:
            yield f"{name:{width}}  {found.plugin.description}  [{_shown(found.path)}]"
    if catalogue.handlers:
        yield ""
        yield "Handlers:"
    for pattern, handler in catalogue.handlers.items():
        try:
            handler.plugin.load()
        except PluginError as error:
            broken.append(Broken(pattern, handler.path, str(error)))
        else:
            yield f"{pattern:{width}}  {handler.plugin.function}  [{_shown(handler.path)}]"
    if broken:
        yield ""
        yield "Cannot be used:"
    for each in broken:
        yield f"{each.name:{width}}  {each.cause}  [{_shown(each.path)}]"


def _shown(path: str) -> str:
    """Return a path below the current folder without the folder."""
    here = current_folder()
    if here is None or not Path(path).is_relative_to(here):
        return path
    return str(Path(path).relative_to(here))
