"""Cookies, by the rules of the standard library's jar."""

from email.message import Message
from http.cookiejar import Cookie, CookieJar
from types import SimpleNamespace
from typing import Any
from urllib.request import Request as JarRequest

from attrs import define, field

from evserve.http.headers import Head
from evserve.http.url import URL


@define(eq=False)
class Cookies:
    """A cookie jar. Requests do not pay for it as long as it is empty."""

    jar: CookieJar = field(factory=CookieJar)
    _is_empty: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._is_empty = next(iter(self.jar), None) is None

    def add(self, cookie: Cookie) -> None:
        """Put a cookie into the jar."""
        self.jar.set_cookie(cookie)
        self._is_empty = False

    def header(self, url: URL) -> bytes | None:
        """Return the value of the Cookie header for a request to `url`."""
        if self._is_empty:
            return None
        request = JarRequest(str(url))  # noqa: S310 # nothing is opened
        self.jar.add_cookie_header(request)
        value = request.get_header("Cookie")
        return None if value is None else value.encode("latin-1")

    def store(self, url: URL, head: Head) -> None:
        """Keep what the response from `url` sets."""
        if b"set-cookie" in head.headers:
            request = JarRequest(str(url))  # noqa: S310 # nothing is opened
            message = Message()
            for value in head.headers.all(b"set-cookie"):
                message["Set-Cookie"] = value.decode("latin-1")
            response: Any = SimpleNamespace(info=lambda: message)  # all that a jar reads
            self.jar.extract_cookies(response, request)
            self._is_empty = False
