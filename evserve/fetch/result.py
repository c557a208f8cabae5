"""Result: what became of one URL, for callbacks and rows."""

import json
import os
import re
from json.encoder import encode_basestring_ascii as _quote
from typing import Any

from attrs import define, field
from typing_extensions import override

from evserve.fetch.errors import InvalidJSON, ProxyDown, error_text
from evserve.fetch.policy import TRANSIENT_STATUSES
from evserve.fetch.text import charset_of, decode
from evserve.http.errors import BadURL
from evserve.http.headers import Headers


_NO_HEADERS = Headers()
_CREDENTIALS = re.compile(r"(?<=://)[^\s/?#'\"]*@")


def _utf_8(path: str) -> str:
    """Return a path as its bytes on the disk read as UTF-8, whatever the locale."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def _key(error: Exception | None) -> str | None:
    return None if error is None else error_text(error)


@define(repr=False, unsafe_hash=True)  # not frozen, as URL
class Result:
    """The outcome of one URL: the page, and one row of output.

    url: as it was given.  status_code, headers: of the last response; None and no headers without
    one.  content_length: bytes of the body, as received and decompressed.  final_url: after
    redirects.  elapsed: seconds in flight, without the pauses of politeness.  tries: 1 unless it
    was retried, 0 if nothing was sent.  sha256: of the body, None if it is not complete.  error:
    None if the URL was fetched, otherwise one of `evserve.http.errors` or `evserve.fetch.errors`;
    BadStatus for a status of 400 or above.  path: the file, with `--save`.  body: complete, that
    of an error status too; b"" if it is not, or if `Policy.max_body` keeps none.
    """

    url: str
    status_code: int | None = None
    content_length: int = 0
    final_url: str | None = None
    elapsed: float = 0.0
    tries: int = 0
    sha256: str | None = None
    error: Exception | None = field(default=None, eq=_key, hash=False)
    path: str | None = None
    headers: Headers = field(default=_NO_HEADERS, hash=False)
    body: bytes = b""

    @classmethod
    def not_sent(cls, url: str, error: Exception) -> "Result":
        """Return the result of a URL that cannot be asked for."""
        return cls(url, error=error)

    @property
    def is_final(self) -> bool:
        """Whether fetching the URL again is pointless, because the server's answer will stay."""
        if self.error is None:
            return True
        return self.sha256 is not None and self.status_code not in TRANSIENT_STATUSES

    @property
    def is_proxy_down(self) -> bool:
        """Whether it says nothing about the URL: the proxy was down and nothing was sent."""
        return isinstance(self.error, ProxyDown)

    def text(self) -> str:
        """Return the body as text; bytes that its encoding does not know become U+FFFD.

        The encoding is that of a byte-order mark, of Content-Type, of a declaration at the
        beginning (HTML, XML), or else UTF-8 or, if it is not that, windows-1252.
        """
        return decode(self.body, self._content_type)

    def json(self) -> Any:
        """Return what the body means as JSON; raises InvalidJSON, which is a ValueError too."""
        try:
            is_declared = charset_of(self._content_type) is not None
            return json.loads(self.text() if is_declared else self.body)
        except (ValueError, RecursionError) as error:
            problem = "too deep" if isinstance(error, RecursionError) else str(error)
            url, failure = self._without_password()
            if not self.body:
                problem = "no body" if self.error is None else f"no body: {failure}"
            raise InvalidJSON(f"{url} is not JSON: {problem}") from None

    def as_json(self) -> str:
        """Return the row as one line of JSON, without its end."""
        # Formatted by hand: json.dumps would take a tenth of the time that a URL takes.
        path = "" if self.path is None else f', "path": {_quote(_utf_8(self.path))}'
        url = final_url = _quote(self.url)
        if self.final_url != self.url:
            final_url = "null" if self.final_url is None else _quote(self.final_url)
        return (
            f'{{"url": {url}, '
            f'"status_code": {"null" if self.status_code is None else self.status_code}, '
            f'"content_length": {self.content_length}, '
            f'"final_url": {final_url}, '
            f'"elapsed": {round(self.elapsed, 6)}, '
            f'"tries": {self.tries}, '
            f'"sha256": {"null" if self.sha256 is None else _quote(self.sha256)}, '
            f'"error": {"null" if self.error is None else _quote(error_text(self.error))}{path}}}'
        )

    @override
    def __repr__(self) -> str:
        # For logs: without body, headers (which may set cookies) and passwords.
        url, error = self._without_password()
        outcome = f"{self.content_length} bytes" if self.error is None else error
        return f"<Result {url!r} status {self.status_code}: {outcome}>"

    def _without_password(self) -> tuple[str, str]:
        """Return the URL and the error, as text."""
        if isinstance(self.error, BadURL) and "@" in self.url:
            # Where the password ends is unknown, and the message may quote it.
            return f"...@{self.url.rpartition('@')[2]}", "BadURL"
        return _CREDENTIALS.sub("...@", self.url), repr(self.error)

    @property
    def _content_type(self) -> str | None:
        return self.headers.get("content-type")
