"""The server's endpoint, from a string; what is wrong with the string, in words."""

import re
from typing import Any

from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint

from evserve.endpoints import check_text, explain_endpoint


_UNKNOWN = "unknown kind of endpoint (such as tcp:HOST:PORT, tls:, unix:PATH)"

# How many arguments may stand without their names; of more than that Twisted's parsers take none.
_PLACES = {"tcp": 2, "ssl": 2, "unix": 1}


class EndpointError(ValueError):
    """The endpoint string makes no sense; the message is one line."""


def parse_endpoint(reactor: Any, description: str) -> IStreamClientEndpoint:
    """Return the endpoint that a string describes; raises EndpointError."""
    try:
        _check(description)
        endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
    except Exception as error:  # parsers raise whatever they trip over
        why = explain_endpoint(error, _UNKNOWN)
        raise EndpointError(f"--connect {description!r}: {why}") from error
    return endpoint


def _check(description: str) -> None:
    check_text(description)
    kind, *arguments = re.sub(r"\\.", "", description).split(":")
    places = sum("=" not in each for each in arguments)
    if places > _PLACES.get(kind.lower(), places):
        raise ValueError("too many arguments")
