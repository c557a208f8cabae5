"""What became of a URL."""

import json

from attrs import frozen

from evserve.fetch.polite.retries import PASSING_STATUSES


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

    def as_json(self) -> str:
        """Return the row as one line of JSON, without its end."""
        row: dict[str, object] = {
            "url": self.url,
            "status_code": self.status_code,
            "content_length": self.content_length,
            "final_url": self.final_url,
            "elapsed": round(self.elapsed, 6),
            "tries": self.tries,
            "sha256": self.sha256,
            "error": self.error,
        }
        if self.path is not None:
            row["path"] = self.path
        return json.dumps(row)
