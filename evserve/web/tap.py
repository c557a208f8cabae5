"""`twistd -n evserve web`: Twisted's own web service, whose site is a fast one."""

from typing import Any

from twisted.application.service import IService
from twisted.web import tap
from twisted.web.server import Site

from evserve.web import fast


class Options(tap.Options):
    """The options of `twistd web`, and one to serve as that does."""

    optFlags = [["stock-http", "", "Serve with Twisted's own HTTP channel"]]


def makeService(options: Options) -> IService:
    """Return what `twistd web` makes, with a fast site.

    With --personal it serves no HTTP, and stays as it is.
    """
    made: Any = tap.makeService(options)
    service: IService = made
    if not options["stock-http"]:
        for factory in {port.factory for port in made}:  # one, for all ports
            if isinstance(factory, Site):
                fast(factory)
    return service
