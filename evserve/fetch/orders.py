"""The body of a `fetch.url` event: a URL, or a JSON object with one and more."""

import json
from typing import Any

from attrs import field, frozen

from evserve.http.errors import FetchError
from evserve.http.messages import Headers, check_headers
from evserve.http.settings import MOST_SECONDS
from evserve.http.url import parse_url


_KEYS = frozenset(["url", "method", "headers", "timeout"])
_METHODS = ("GET", "HEAD")  # safe to repeat, because an event may come twice


class BadOrder(Exception):  # noqa: N818 - as in `evserve.http.errors`
    """The event's body is malformed; the message is one line."""


@frozen
class Order:
    """A URL to fetch, and how. timeout: seconds, None for the default."""

    url: str
    method: bytes = b"GET"
    headers: Headers = field(factory=Headers)
    timeout: float | None = None


def parse_order(body: bytes) -> Order:
    """Return what an event's body asks for; raises BadOrder."""
    text = body.decode("utf-8", "replace").strip()
    order = _from_object(text) if text.startswith("{") else Order(text)
    try:
        parse_url(order.url)
        check_headers(order.headers)
    except FetchError as error:
        raise BadOrder(str(error)) from None
    return order


def _from_object(text: str) -> Order:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise BadOrder(f"not JSON: {error}") from None
    except RecursionError:
        raise BadOrder("not JSON: too deep") from None
    unknown = sorted(given.keys() - _KEYS)
    if unknown:
        raise BadOrder(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    url, method = given.get("url"), given.get("method", "GET")
    if not isinstance(url, str):
        raise BadOrder('no "url" that is a string')
    if method not in _METHODS:
        raise BadOrder(f"method {method!r} is not one of {', '.join(_METHODS)}")
    headers, timeout = _headers(given.get("headers", {})), _timeout(given.get("timeout"))
    return Order(url, method.encode("ascii"), headers, timeout)


def _headers(given: Any) -> Headers:
    if not (isinstance(given, dict) and all(isinstance(each, str) for each in given.values())):
        raise BadOrder('"headers" is not an object of strings')
    lines = given.items()
    return Headers([(k.encode(errors="replace"), v.encode(errors="replace")) for k, v in lines])


def _timeout(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise BadOrder('"timeout" is not a number of seconds')
    if not 0 < given <= MOST_SECONDS:
        raise BadOrder(f'"timeout" is not above 0 and up to {MOST_SECONDS} seconds')
    return float(given)
