"""File names for URLs: readable, harmless on any disk, and never the same for two URLs."""

import re
from hashlib import sha256
from urllib.parse import unquote

from evserve.http.url import URL


_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 80  # characters of what is readable


def file_name(url: URL) -> str:
    """Return a relative path, such as `example.com/report-1a2b3c4d5e.pdf`.

    The part after the last hyphen comes from the whole URL, so that `?page=1` and `?page=2`, or a
    page and a folder of its name, do not meet. A name cannot leave its folder or hide itself: it
    holds no slash and begins with a letter or digit.
    """
    path = url.target.partition("?")[0]
    stem, dot, extension = _safe(unquote(path.rpartition("/")[2])).rpartition(".")
    if not stem or len(extension) > 10:  # noqa: PLR2004 - no extension is that long
        stem, extension, dot = stem + dot + extension, "", ""
    stem = stem[:_LONGEST].strip(".-_") or "index"
    digest = sha256(url.identity.encode()).hexdigest()[:10]
    folder = _safe(url.origin.authority).strip(".-_") or "_"
    return f"{folder}/{stem}-{digest}{dot}{extension}"


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)
