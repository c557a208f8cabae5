"""From handler plugins to routes: the import of other people's code, one failure at a time."""

from twisted.logger import Logger

from evserve.plugin import BrokenPlugin, Catalogue, FoundHandler, PluginError
from evserve.work.routing import Route, Routes


_log = Logger()


class NoHandlersError(Exception):
    """There is nothing to run; the message says, in one line, why."""


def load_routes(catalogue: Catalogue) -> Routes:
    """Import the handlers found.

    What cannot be used is one line in the log, and the others go on; raises NoHandlersError when
    there are no others.
    """
    broken = list(catalogue.broken)
    routes = []
    for found in catalogue.handlers.values():
        try:
            routes.append(_load(found))
        except PluginError as error:
            broken.append(BrokenPlugin(found.plugin.pattern, found.path, str(error)))
    if not routes:
        raise NoHandlersError(_why_none(broken))
    for each in broken:
        _log.error("plugin {each.name} cannot be used: {each.cause} ({each.path})", each=each)
    return Routes(routes)


def _load(found: FoundHandler) -> Route:
    plugin = found.plugin
    return Route(
        plugin.pattern, plugin.load(), plugin.blocking, plugin.max_attempts, plugin.timeout
    )


def _why_none(broken: list[BrokenPlugin]) -> str:
    if broken:
        causes = "; ".join(f"{each.name}: {each.cause} ({each.path})" for each in broken)
        return f"no handler can be used: {causes}"
    return (
        "no handlers were found: a file in twisted/plugins/ names them, such as "
        'Handler("image.uploaded", "thumbs.make_thumbnail")'
    )
