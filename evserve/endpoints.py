"""What is wrong with an endpoint string, in words: Twisted's parsers raise what they trip over."""

import os
import re

from twisted.python.filepath import UnlistableError

from evserve.plugin import one_line


# What Twisted and Python say about a wrong endpoint string, and what a user is told.
_EXPLANATIONS = (
    (r"invalid literal for int\(\) with base 8: (.*)", "{} is not an octal number, such as 660"),
    (r"invalid literal for int\(\) with base \d+: (.*)", "{} is not a number"),
    (r"missing .* arguments?: (.*)", "it lacks {}"),
    (r"unexpected keyword argument (.*)", "it has no argument {}"),
    (r"module 'OpenSSL.SSL' has no attribute (.*)", "{} is not a method of OpenSSL"),
    ("public and private keys do not match", "the private key is not that of the certificate"),
    (r"positional arguments? but", "it has too many arguments"),
)


def check_text(endpoint: str) -> None:
    """Raise ValueError on characters that Twisted's parsers stumble over, or no endpoint has."""
    if re.search(r"[\0-\x1f\x7f]", endpoint):
        raise ValueError("it contains control characters")
    if re.search(r"(?<!\\)(\\\\)*\\$", endpoint):
        raise ValueError("it ends with a backslash, which quotes nothing")


def explain_endpoint(error: Exception, kinds: str) -> str:
    """Say in one line why a string is no endpoint; `kinds` is said of an unknown one."""
    if type(error).__module__.startswith("OpenSSL"):
        return "not a private key and its certificate (PEM)"
    if isinstance(error, UnlistableError):  # which keeps its words to itself
        error = error.originalException
    if isinstance(error, OSError) and error.strerror:
        where = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return error.strerror + where
    text = " ".join(str(error).split())
    for pattern, words in (("Unknown endpoint type", kinds), *_EXPLANATIONS):
        if found := re.search(pattern, text):
            return words.format(*found.groups())
    return text if text and isinstance(error, (OSError, ValueError)) else one_line(error)
