"""Problems of endpoint strings as one line, for servers and clients.

Twisted's endpoint parsers raise whatever error they run into.
"""

import os
import re

from twisted.python.filepath import UnlistableError

from evserve.plugin import one_line


# Messages of Twisted and Python about an endpoint string, and the problem as a user sees it.
_PROBLEMS = (
    (r"invalid literal for int\(\) with base 8: (.*)", "{} is not an octal number, such as 660"),
    (r"invalid literal for int\(\) with base \d+: (.*)", "{} is not a number"),
    (r"missing .* arguments?: (.*)", "missing {}"),
    (r"unexpected keyword argument (.*)", "unknown argument {}"),
    (r"module 'OpenSSL.SSL' has no attribute (.*)", "{} is not a method of OpenSSL"),
    ("public and private keys do not match", "the private key is not that of the certificate"),
    (r"positional arguments? but", "too many arguments"),
)


def check_text(endpoint: str) -> None:
    """Raise ValueError on characters that crash Twisted's parsers or occur in no endpoint."""
    if re.search(r"[\0-\x1f\x7f]", endpoint):
        raise ValueError("control characters")
    if re.search(r"(?<!\\)(\\\\)*\\$", endpoint):
        raise ValueError("trailing backslash")


def explain_endpoint(error: Exception, unknown_kind: str) -> str:
    """Return the problem of an endpoint string in one line; `unknown_kind` if its kind is."""
    if type(error).__module__.startswith("OpenSSL"):
        return "not a private key and its certificate (PEM)"
    if isinstance(error, UnlistableError):  # whose own message is empty
        error = error.originalException
    if isinstance(error, OSError) and error.strerror:
        where = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return error.strerror + where
    text = " ".join(str(error).split())
    for pattern, words in (("Unknown endpoint type", unknown_kind), *_PROBLEMS):
        if found := re.search(pattern, text):
            return words.format(*found.groups())
    return text if text and isinstance(error, (OSError, ValueError)) else one_line(error)
