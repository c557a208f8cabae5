"""From options to a fetcher on the engine."""

import os
from collections.abc import Sequence
from typing import Any

from twisted.logger import Logger
from twisted.python import usage

from evserve.fetch.fetcher import Fetcher
from evserve.fetch.manners import Manners
from evserve.fetch.polite.retries import RetryPolicy
from evserve.fetch.seam import Store
from evserve.http.client import Client
from evserve.http.cookies import Cookies
from evserve.http.proxy import Proxies, named_proxy, proxies_from
from evserve.http.settings import Settings, Timeouts
from evserve.interfaces import IHost


_log = Logger(namespace="evserve.fetch")


def make_fetcher(options: usage.Options, host: IHost, stores: Sequence[Store]) -> Fetcher:
    """Return the fetcher that the options describe; raises ProxyFailed."""
    reactor: Any = host.reactor
    timeouts = Timeouts(options["connect-timeout"], options["idle-timeout"], options["timeout"])
    cookies = Cookies() if options["cookies"] else None
    client = Client(reactor, _settings(options, timeouts), cookies)
    manners = Manners(
        total=options["concurrency"],
        per_origin=options["per-origin"],
        delay=options["delay"],
        user_agent=options["user-agent"],
        robots=not options["no-robots"],
        retry=RetryPolicy(options["retries"]),
        max_redirects=options["max-redirects"],
    )
    return Fetcher(client, reactor, manners, stores, timeouts)


def _settings(options: usage.Options, timeouts: Timeouts) -> Settings:
    proxies = _proxies(options["proxy"])
    # A person may well mean the machine on the next desk. Whoever puts events into a queue
    # is somebody else, perhaps a stranger.
    allow_private = bool(options["allow-private"] or not options["queue"])
    if not allow_private and (proxies.http or proxies.https):
        _log.warn(
            "the proxy looks names up, so only the proxy can refuse names of private addresses"
        )
    return Settings(
        per_origin=options["per-origin"],
        connections=options["concurrency"],
        timeouts=timeouts,
        max_body=options["max-size"],
        user_agent=options["user-agent"].encode("ascii"),
        allow_private=allow_private,
        proxies=proxies,
    )


def _proxies(given: str | None) -> Proxies:
    if given is None:
        return proxies_from(os.environ)
    proxy = named_proxy(given)
    return Proxies(proxy, proxy)
