"""Basic (RFC 7617) and Digest (RFC 7616) authentication, as values and functions."""

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Callable

from attrs import define, field, frozen


_SCHEME = re.compile(r"\s*([A-Za-z0-9-]+)(?:\s+|$)(?![=])")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


@frozen
class Auth:
    """A name and a password; Basic sends them at once, Digest waits for a challenge."""

    user: str
    password: str = field(repr=False)
    digest: bool = False

    def basic(self) -> bytes:
        """Return the value of the Authorization header."""
        return b"Basic " + b64encode(_bytes(f"{self.user}:{self.password}"))


@define(eq=False)
class Challenge:
    """A server's Digest challenge, and how often it has been answered."""

    realm: str
    nonce: str
    opaque: str | None
    algorithm: str | None
    qop: bool
    stale: bool = False
    count: int = 0

    def answer(self, auth: Auth, method: str, target: str, cnonce: str = "") -> bytes:
        """Return the value of the Authorization header for one more request."""
        self.count += 1
        cnonce = cnonce or secrets.token_hex(8)
        name = (self.algorithm or "MD5").lower()
        digest = _hash(name.removesuffix("-sess"))
        secret = digest(f"{auth.user}:{self.realm}:{auth.password}")
        if name.endswith("-sess"):
            secret = digest(f"{secret}:{self.nonce}:{cnonce}")
        middle = f"{self.nonce}:{self.count:08x}:{cnonce}:auth" if self.qop else self.nonce
        response = digest(f"{secret}:{middle}:{digest(f'{method}:{target}')}")
        return _bytes(self._header(auth.user, target, response, cnonce))

    def _header(self, user: str, target: str, response: str, cnonce: str) -> str:
        quoted = {
            "username": user,
            "realm": self.realm,
            "nonce": self.nonce,
            "uri": target,
            "response": response,
        }
        if self.opaque is not None:
            quoted["opaque"] = self.opaque
        if self.qop:
            quoted["cnonce"] = cnonce
        words = [f'{key}="{_escaped(value)}"' for key, value in quoted.items()]
        if self.algorithm:
            words.append(f"algorithm={self.algorithm}")
        if self.qop:
            words += ["qop=auth", f"nc={self.count:08x}"]
        return "Digest " + ", ".join(words)


def digest_challenge(values: list[bytes]) -> Challenge | None:
    """Return the strongest Digest challenge in WWW-Authenticate values that can be answered."""
    found = [
        challenge
        for value in values
        for scheme, parameters in _challenges(value.decode("utf-8", "surrogateescape"))
        if scheme == "digest" and (challenge := _challenge(parameters))
    ]
    return max(found, key=lambda each: "sha" in (each.algorithm or "").lower(), default=None)


def _challenge(parameters: dict[str, str]) -> Challenge | None:
    algorithm = parameters.get("algorithm")
    known = (algorithm or "md5").lower().removesuffix("-sess") in ("md5", "sha-256")
    qops = [word.strip().lower() for word in parameters.get("qop", "").split(",")]
    if not known or "nonce" not in parameters or ("qop" in parameters and "auth" not in qops):
        return None
    return Challenge(
        parameters.get("realm", ""),
        parameters["nonce"],
        parameters.get("opaque"),
        algorithm,
        "qop" in parameters,
        parameters.get("stale", "").lower() == "true",
    )


def _challenges(text: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    place = 0
    while place < len(text):
        parameter = _PARAMETER.match(text, place) if found else None
        if parameter:
            name, quoted, bare = parameter.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            found[-1][1][name.lower()] = value
            place = parameter.end()
            continue
        scheme = _SCHEME.match(text, place)
        if scheme:
            found.append((scheme[1].lower(), {}))
        place = scheme.end() if scheme else place + 1
    return found


def _hash(name: str) -> Callable[[str], str]:
    make = hashlib.sha256 if name == "sha-256" else hashlib.md5
    return lambda text: make(_bytes(text)).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
