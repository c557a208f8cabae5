"""What became of a URL."""

from json.encoder import encode_basestring_ascii as _text

from attrs import frozen

from evserve.fetch.polite.retries import PASSING_STATUSES
from evserve.fetch.refusals import ProxyDown


@frozen
class Result:
    """One row of output.

    url: as it was given.  status_code: None if there was no response.  content_length: bytes of
    the body, as received and decompressed.  final_url: after redirects.  elapsed: seconds at
    work, waiting for politeness' sake not counted.  tries: 1 unless it was tried again.
    sha256: of the body, None if it is not complete.  error: "Name: what happened", None if the
    URL was fetched.  path: the file, with `--save`.
    """

    url: str
    status_code: int | None = None
    content_length: int = 0
    final_url: str | None = None
    elapsed: float = 0.0
    tries: int = 0
    sha256: str | None = None
    error: str | None = None
    path: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether fetching the URL again is pointless: a server has spoken, and meant it."""
        if self.error is None:
            return True
        return self.sha256 is not None and self.status_code not in PASSING_STATUSES

    @property
    def is_proxys(self) -> bool:
        """Whether it says nothing of the URL: the proxy was down, and nobody was asked."""
        return self.error is not None and self.error.startswith(f"{ProxyDown.__name__}: ")

    def as_json(self) -> str:
        """Return the row as one line of JSON, without its end."""
        # Put together by hand: json.dumps would take a tenth of the time that a URL takes.
        path = "" if self.path is None else f', "path": {_text(self.path)}'
        return (
            f'{{"url": {_text(self.url)}, '
            f'"status_code": {"null" if self.status_code is None else self.status_code}, '
            f'"content_length": {self.content_length}, '
            f'"final_url": {"null" if self.final_url is None else _text(self.final_url)}, '
            f'"elapsed": {round(self.elapsed, 6)}, '
            f'"tries": {self.tries}, '
            f'"sha256": {"null" if self.sha256 is None else _text(self.sha256)}, '
            f'"error": {"null" if self.error is None else _text(self.error)}{path}}}'
        )
