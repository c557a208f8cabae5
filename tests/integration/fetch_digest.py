"""A page behind Digest authentication (RFC 7616), with its own computation of the response."""

import hashlib
import re


HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
PAIR = re.compile(r'(\w+)=(?:"([^"]*)"|([^", ]+))')


class DigestPage:
    """Answers "welcome" to `user` with `password`; `uses` is how often a nonce is good.

    `refusals` counts 401s, `basic` the passwords that came in the clear.
    """

    def __init__(self, algorithm="MD5", user="me", password="pä:ss", uses=1000):
        self.algorithm, self.user, self.password, self.uses = algorithm, user, password, uses
        self.nonce, self.counts = 0, {}
        self.refusals = self.basic = 0

    def __call__(self, request):
        given = (request.getHeader(b"authorization") or b"").decode()
        scheme, _, rest = given.partition(" ")
        self.basic += scheme == "Basic"
        pairs = {name: quoted or bare for name, quoted, bare in PAIR.findall(rest)}
        if scheme != "Digest" or not self.is_right(request, pairs):
            return self.refuse(request, stale=False)
        if self.is_used_up(pairs):
            return self.refuse(request, stale=True)
        return b"welcome"

    def is_right(self, request, pairs):
        def digest(text):
            return HASHES[self.algorithm](text.encode()).hexdigest()

        secret = digest(f"{self.user}:Bücher:{self.password}")
        what = digest(f"{request.method.decode()}:{request.uri.decode()}")
        middle = ":".join(pairs.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
        return (
            pairs.get("response") == digest(f"{secret}:{middle}:{what}")
            and pairs["uri"] == request.uri.decode()
            and pairs["opaque"] == "o/p="
            and pairs["qop"] == "auth"
        )

    def is_used_up(self, pairs):
        """Whether the nonce has expired, or its count was used before."""
        counts = self.counts.setdefault(pairs["nonce"], set())
        counts.add(pairs["nc"])
        return pairs["nonce"] != f"n{self.nonce}" or len(counts) > self.uses

    def refuse(self, request, *, stale):
        self.nonce += 1
        self.refusals += 1
        request.setResponseCode(401)
        request.setHeader(
            "WWW-Authenticate",
            f'Digest realm="Bücher", qop="auth-int,auth", algorithm={self.algorithm}, '
            f'nonce="n{self.nonce}", opaque="o/p="{", stale=true" * stale}'.encode(),
        )
        return b"who are you?"
