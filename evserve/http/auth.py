"""Basic (RFC 7617) and Digest (RFC 7616) authentication."""

import hashlib
import re
import secrets
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from evserve.http.headers import Head
from evserve.http.url import Origin


if TYPE_CHECKING:
    from evserve.http.request import Request


_SCHEME = re.compile(r"\s*([A-Za-z0-9-]+)(?:\s+|$)(?![=])")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_MAX_ATTEMPTS = 5  # for one request: a server may call every nonce stale


@frozen
class Auth:
    """A user name and a password. Basic sends them at once, Digest waits for a challenge."""

    user: str
    password: str = field(repr=False)
    digest: bool = False

    def basic(self) -> bytes:
        """Return the value of an Authorization header for Basic."""
        return b"Basic " + b64encode(_to_bytes(f"{self.user}:{self.password}"))


@define(eq=False)
class Authenticator:
    """Authorization headers for requests; remembers the last Digest challenge of each origin."""

    size: int = 1000  # challenges; each is good for more than one request
    _challenges: OrderedDict[tuple[Origin, Auth], "Challenge"] = field(
        factory=OrderedDict, init=False
    )

    def header(self, request: "Request") -> bytes | None:
        """Return the value of the Authorization header, or None to send none."""
        auth = _auth_of(request)
        if auth is None:
            return None
        if _allows_digest(request):
            challenge = self._challenges.get((request.url.origin, auth))
            if challenge is not None:
                return challenge.answer(auth, request.method.decode("ascii"), request.url.target)
        return None if auth.digest else auth.basic()

    def challenged(self, request: "Request", head: Head, attempts: int) -> bool:
        """Take a 401 response; return whether to send `request` once more.

        attempts: 401 responses to this request, this one included.
        """
        auth = _auth_of(request)
        if auth is None or not _allows_digest(request) or not request.is_resendable:
            return False
        key = request.url.origin, auth
        challenge = digest_challenge(head.headers.all(b"www-authenticate"))
        if challenge is None or (attempts > 1 and not challenge.stale) or attempts > _MAX_ATTEMPTS:
            self._challenges.pop(key, None)
            return False
        self._challenges[key] = challenge
        self._challenges.move_to_end(key)
        if len(self._challenges) > self.size:
            self._challenges.popitem(last=False)
        return True


@define(eq=False)
class Challenge:
    """A Digest challenge of a server, and how often it has been answered."""

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
        digest = _hash_function(name.removesuffix("-sess"))
        secret = digest(f"{auth.user}:{self.realm}:{auth.password}")
        if name.endswith("-sess"):
            secret = digest(f"{secret}:{self.nonce}:{cnonce}")
        middle = f"{self.nonce}:{self.count:08x}:{cnonce}:auth" if self.qop else self.nonce
        response = digest(f"{secret}:{middle}:{digest(f'{method}:{target}')}")
        quoted = {
            "username": auth.user,
            "realm": self.realm,
            "nonce": self.nonce,
            "uri": target,
            "response": response,
        }
        if self.opaque is not None:
            quoted["opaque"] = self.opaque
        if self.qop:
            quoted["cnonce"] = cnonce
        words = [f'{key}="{_escape(value)}"' for key, value in quoted.items()]
        if self.algorithm:
            words.append(f"algorithm={self.algorithm}")
        if self.qop:
            words += ["qop=auth", f"nc={self.count:08x}"]
        return _to_bytes("Digest " + ", ".join(words))


def digest_challenge(values: list[bytes]) -> Challenge | None:
    """Return the strongest supported Digest challenge in WWW-Authenticate values, or None."""
    found = [
        challenge
        for value in values
        for scheme, parameters in _parse_challenges(value.decode("utf-8", "surrogateescape"))
        if scheme == "digest" and (challenge := _make_challenge(parameters))
    ]
    return max(found, key=lambda each: "sha" in (each.algorithm or "").lower(), default=None)


def _make_challenge(parameters: dict[str, str]) -> Challenge | None:
    algorithm = parameters.get("algorithm")
    is_known = (algorithm or "md5").lower().removesuffix("-sess") in ("md5", "sha-256")
    qops = [word.strip().lower() for word in parameters.get("qop", "").split(",")]
    if not is_known or "nonce" not in parameters or ("qop" in parameters and "auth" not in qops):
        return None
    return Challenge(
        parameters.get("realm", ""),
        parameters["nonce"],
        parameters.get("opaque"),
        algorithm,
        "qop" in parameters,
        parameters.get("stale", "").lower() == "true",
    )


def _parse_challenges(text: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(text):
        parameter = _PARAMETER.match(text, position) if found else None
        if parameter:
            name, quoted, bare = parameter.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            found[-1][1][name.lower()] = value
            position = parameter.end()
            continue
        scheme = _SCHEME.match(text, position)
        if scheme:
            found.append((scheme[1].lower(), {}))
        position = scheme.end() if scheme else position + 1
    return found


def _auth_of(request: "Request") -> Auth | None:
    if request.auth is not None or request.url.credentials is None:
        return request.auth
    return Auth(*request.url.credentials)


def _allows_digest(request: "Request") -> bool:
    """Whether Digest may be used. A URL does not say which scheme its password is for."""
    return request.auth is None or request.auth.digest


def _hash_function(name: str) -> Callable[[str], str]:
    make = hashlib.sha256 if name == "sha-256" else hashlib.md5
    return lambda text: make(_to_bytes(text)).hexdigest()


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
