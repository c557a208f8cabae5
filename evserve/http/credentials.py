"""Names and passwords on their way to servers: Basic at once, Digest where it was asked for."""

from collections import OrderedDict

from attrs import define, field

from evserve.http.auth import Auth, Challenge, digest_challenge
from evserve.http.messages import Head
from evserve.http.request import Request
from evserve.http.url import Origin


_MOST_ANSWERS = 5  # to one request; a server that calls every nonce stale would go on for ever


@define(eq=False)
class Credentials:
    """Remembers the last challenge of each origin: its nonce is good for more than one request."""

    size: int = 1000
    _known: OrderedDict[tuple[Origin, Auth], Challenge] = field(factory=OrderedDict, init=False)

    def header(self, request: Request) -> bytes | None:
        """Return the value of Authorization, None to send none."""
        auth = _auth_of(request)
        if auth is None:
            return None
        challenge = self._known.get((request.url.origin, auth)) if _may_digest(request) else None
        if challenge is not None:
            return challenge.answer(auth, request.method.decode("ascii"), request.url.target)
        return None if auth.digest else auth.basic()

    def challenged(self, request: Request, head: Head, answers: int) -> bool:
        """Take a 401; return whether to send `request` once more.

        answers: how many challenges this request would have answered then.
        """
        auth = _auth_of(request)
        if auth is None or not _may_digest(request) or not request.is_resendable:
            return False
        key = request.url.origin, auth
        challenge = digest_challenge(head.headers.all(b"www-authenticate"))
        if challenge is None or (answers > 1 and not challenge.stale) or answers > _MOST_ANSWERS:
            self._known.pop(key, None)
            return False
        self._known[key] = challenge
        self._known.move_to_end(key)
        if len(self._known) > self.size:
            self._known.popitem(last=False)
        return True


def _auth_of(request: Request) -> Auth | None:
    if request.auth is not None or request.url.credentials is None:
        return request.auth
    return Auth(*request.url.credentials)


def _may_digest(request: Request) -> bool:
    """Whether Digest is an option: a URL does not say which scheme its password is for."""
    return request.auth is None or request.auth.digest
