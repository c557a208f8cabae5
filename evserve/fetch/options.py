"""The options of the fetch service."""

import os
import re
from typing import Any

from twisted.python import usage

from evserve.http.errors import FetchError
from evserve.http.headers import check_headers
from evserve.http.proxy import named_proxy
from evserve.options import MAX_TIMER_SECONDS


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text, re.ASCII):
        raise ValueError("not a whole number from 1 to 999999999")
    return int(text)


def times(text: str) -> int:
    """Return a whole number, 0 included."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ValueError("not a whole number up to 999999999")
    return int(text)


def seconds(text: str) -> float:
    """Return a duration in seconds, 0 or more."""
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text, re.ASCII):
        raise ValueError("not a number of seconds (such as 2 or 0.5)")
    if float(text) > MAX_TIMER_SECONDS:
        raise ValueError(f"more than {MAX_TIMER_SECONDS} seconds")
    return float(text)


def limit(text: str) -> float:
    """Return a duration in seconds that is more than 0."""
    value = seconds(text)
    if not value:
        raise ValueError("not a number of seconds above 0")
    return value


def user_agent(text: str) -> str:
    """Return what may stand in a User-Agent header."""
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise ValueError("not a name such as mybot/1.0 (ASCII, no line breaks)")
    return text


def header(text: str) -> tuple[bytes, bytes]:
    """Return the name and the value of `Name: value`; raises ValueError."""
    name, colon, value = text.partition(":")
    line = name.encode(errors="replace"), value.strip().encode(errors="surrogateescape")
    if not colon:
        raise ValueError("not a header (Name: value)")
    try:
        check_headers([line])
    except FetchError:
        raise ValueError("not a header that can be sent (Name: value)") from None
    return line


class Options(usage.Options):
    """See `longdesc`."""

    synopsis = "[options] URL..."
    longdesc = (
        "Fetches URLs, many at once, and prints a line for each. Obeys robots.txt, Retry-After "
        "and the limits below. Ends with status 0 if all were fetched, 1 if some were not."
    )
    optParameters: list[list[Any]] = [
        ["input", "i", None, "Read URLs from this file, one a line; - is standard input"],
        ["output", "o", None, "Write a JSON object a line to this file; - is standard output"],
        ["save", None, None, "Save what is fetched as files in this folder"],
        ["warc", None, None, "Write a WARC 1.1 archive to this file (.gz: compressed)"],
        ["journal", None, None, "Remember in this file what is done; the next run goes on"],
        ["queue", None, None, "Take fetch.url events from this queue, until stopped"],
        ["results-tube", None, None, "Put results into the queue as events of this type"],
        ["concurrency", None, 100, "Requests at once", count],
        ["per-origin", None, 4, "Requests at once to one origin", count],
        ["delay", None, 0.0, "Seconds between two requests to one origin", seconds],
        ["retries", None, 2, "How often to try again what may pass", times],
        ["timeout", None, 300.0, "Seconds for a URL, retries and redirects included", limit],
        ["connect-timeout", None, 15.0, "Seconds for a connection to be made", limit],
        ["idle-timeout", None, 30.0, "Seconds of silence", limit],
        ["max-redirects", None, 20, "Redirects to follow", times],
        ["max-size", None, None, "Fail what is longer than this many bytes", count],
        ["user-agent", None, "evserve", "Who to say we are; robots.txt may know it", user_agent],
        ["proxy", None, None, "Proxy URL, instead of http_proxy and https_proxy"],
    ]
    optFlags = [
        ["no-robots", None, "Do not ask for robots.txt"],
        ["cookies", None, "Keep cookies during the run"],
        ["allow-private", None, "With --queue: fetch from private addresses too"],
    ]

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["urls"] = []
        self["sitemap"] = []
        self["header"] = []

    def opt_sitemap(self, url: str) -> None:
        """Fetch the pages of this sitemap, or index of them (may be repeated)"""  # noqa: D400 - shown by --help
        self["sitemap"].append(url)

    def opt_header(self, text: str) -> None:
        """Send this header, Name: value (may be repeated)"""  # noqa: D400 - shown by --help
        try:
            self["header"].append(header(text))
        except ValueError as error:
            raise usage.UsageError(f"--header {text!r}: {error}") from error

    def parseArgs(self, *urls: str) -> None:
        """Take the URLs."""
        self["urls"] += urls

    def postOptions(self) -> None:
        """Refuse what cannot be meant."""
        given = self["urls"] or self["input"] is not None or self["sitemap"]
        if self["queue"] == "" or "" in self["sitemap"]:
            name = "queue" if self["queue"] == "" else "sitemap"
            raise usage.UsageError(f"--{name} '': not a URL")
        if not given and not self["queue"]:
            raise usage.UsageError("nothing to fetch: give URLs, -i FILE, --sitemap or --queue")
        if given and self["queue"]:
            raise usage.UsageError("--queue says what to fetch: leave out URLs, -i and --sitemap")
        if self["journal"] and self["queue"]:
            raise usage.UsageError("--queue remembers what is done: leave out --journal")
        if self["results-tube"] and not self["queue"]:
            raise usage.UsageError("--results-tube needs --queue")
        self._check_proxy()
        self._check_files()

    def _check_proxy(self) -> None:
        # Not with a coercion: its message would show the value, and with it a password.
        try:
            if self["proxy"] is not None:
                named_proxy(self["proxy"])
        except FetchError as error:
            raise usage.UsageError(f"--proxy: {error}") from None

    def _check_files(self) -> None:
        """Refuse names that are empty, and files that would be written over one another."""
        taken: dict[str, str] = {}
        for name in ("input", "output", "warc", "journal", "save"):
            path = self[name]
            if path == "":
                raise usage.UsageError(f"--{name} '': not the name of a file")
            if path in (None, "-"):
                continue
            other = taken.setdefault(os.path.realpath(path), name)
            if other != name and not os.path.realpath(path).startswith("/dev/"):
                raise usage.UsageError(f"--{other} and --{name} are the same file: {path}")
