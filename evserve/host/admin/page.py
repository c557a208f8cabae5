"""The live status page: one file, whose own style and script a browser may run, and no others."""

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from evserve.host.admin.answer import Answer


_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


def status_page() -> Answer:
    """Return the page with a Content-Security-Policy that names its parts by their hashes."""
    body = files("evserve.host.admin").joinpath("page.html").read_bytes()
    sources = {tag: _hash(text) for tag, text in _INLINE.findall(body)}
    policy = (
        f"default-src 'none'; style-src {sources[b'style']}; script-src {sources[b'script']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return Answer(body, content_type="text/html; charset=utf-8", policy=policy)


def _hash(text: bytes) -> str:
    return f"'sha256-{b64encode(sha256(text).digest()).decode()}'"
