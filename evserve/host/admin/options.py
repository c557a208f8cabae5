"""The `--admin` option: light enough to be imported at every start."""

from typing import Any

from twisted.python.usage import UsageError

from evserve.host.endpoints import parse_endpoint
from evserve.host.options import LOOPBACK


def admin_endpoint(text: str) -> str:
    """Return an endpoint string that was seen to be a good one; raises ValueError in one line."""
    reactor: Any
    from twisted.internet import reactor

    try:
        parse_endpoint(reactor, text, LOOPBACK)
    except UsageError as error:
        raise ValueError(str(error).removeprefix(f"bad endpoint {text!r}: ")) from error
    return text
