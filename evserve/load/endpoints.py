"""The server's endpoint, from a string; what is wrong with the string, in words."""

import re
from typing import Any

from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint


# What Twisted and Python say about a wrong endpoint string, and what a user is told.
_EXPLANATIONS = (
    ("Unknown endpoint type", "unknown kind of endpoint (such as tcp:HOST:PORT, tls:, unix:PATH)"),
    (r"invalid literal for int\(\) with base \d+: (.*)", "{} is not a number"),
    (r"missing .* arguments?: (.*)", "it lacks {}"),
    (r"unexpected keyword argument (.*)", "it has no argument {}"),
)


class EndpointError(ValueError):
    """The endpoint string makes no sense; the message is one line."""


def parse_endpoint(reactor: Any, description: str) -> IStreamClientEndpoint:
    """Return the endpoint that a string describes; raises EndpointError."""
    try:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
    except Exception as error:  # parsers raise whatever they trip over
        raise EndpointError(f"--connect {description!r}: {_explain(error)}") from error
    return endpoint


def _explain(error: Exception) -> str:
    text = " ".join(str(error).split())
    for pattern, words in _EXPLANATIONS:
        if found := re.search(pattern, text):
            return words.format(*found.groups())
    return text or type(error).__name__
