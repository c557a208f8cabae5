"""What a `fetch.url` event asks for: a URL, or a JSON object with one and more."""

import json
from typing import Any

from attrs import field, frozen

from evserve.http.errors import FetchError
from evserve.http.headers import Headers, check_headers
from evserve.http.url import parse_url
from evserve.options import MAX_TIMER_SECONDS


_KEYS = frozenset(["url", "method", "headers", "timeout"])
_METHODS = ("GET", "HEAD")  # an event may come twice; these may, too


class BadOrder(Exception):  # noqa: N818 - named as in `errors`
    """The event's body is neither a URL nor an object that can be understood."""


@frozen
class Order:
    """A URL to fetch, and how. timeout: seconds, None for the usual."""

    url: str
    method: bytes = b"GET"
    headers: Headers = field(factory=Headers)
    timeout: float | None = None


def parse_order(body: bytes) -> Order:
    """Return what an event's body asks for; raises BadOrder with the reason in one line."""
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
    return Order(_url(given), _method(given), _headers(given), _timeout(given))


def _url(given: dict[str, Any]) -> str:
    url = given.get("url")
    if not isinstance(url, str):
        raise BadOrder('no "url" that is a string')
    return url


def _method(given: dict[str, Any]) -> bytes:
    method = given.get("method", "GET")
    if method not in _METHODS:
        raise BadOrder(f"method {method!r} is not one of {', '.join(_METHODS)}")
    return str(method).encode("ascii")


def _headers(given: dict[str, Any]) -> Headers:
    headers = given.get("headers", {})
    if not isinstance(headers, dict) or not all(
        isinstance(each, str) for each in headers.values()
    ):
        raise BadOrder('"headers" is not an object of strings')
    return Headers(
        [
            (name.encode(errors="replace"), value.encode(errors="replace"))
            for name, value in headers.items()
        ]
    )


def _timeout(given: dict[str, Any]) -> float | None:
    timeout = given.get("timeout")
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise BadOrder('"timeout" is not a number of seconds')
    if not 0 < timeout <= MAX_TIMER_SECONDS:
        raise BadOrder(f'"timeout" is not above 0 and up to {MAX_TIMER_SECONDS} seconds')
    return float(timeout)
