"""Where a connection comes from: a source address has about 28,000 ports for one server.

Loopback has more addresses than one, so a server there can be asked for more connections; Linux
answers on all of 127.0.0.0/8 without being told to.
"""

import errno
import re

from attrs import define, field


_LOOPBACK = re.compile(r"tcp:(host=)?127\.")
_LAST = 254
_NO_PORT_LEFT = {errno.EADDRNOTAVAIL, errno.EADDRINUSE}


def errno_of(error: BaseException | None) -> int | None:
    """Return the system's number for an error, be it Twisted's or Python's."""
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    return number if isinstance(number, int) else None


@define(eq=False)
class Sources:
    """The endpoint to connect to, from one source address after the other."""

    _description: str
    _last: int = field(default=1, init=False)  # byte of the address in use

    @property
    def current(self) -> str:
        """The endpoint to use for the next connection."""
        if self._last == 1:
            return self._description
        return f"{self._description}:bindAddress=127.0.0.{self._last}"

    def move_on(self, used: str, error: BaseException) -> bool:
        """Say whether to try again from elsewhere, after `error` with the endpoint `used`."""
        if errno_of(error) not in _NO_PORT_LEFT or not _LOOPBACK.match(self._description):
            return False
        if "bindAddress=" in self._description or self._last >= _LAST:
            return False
        if used == self.current:
            self._last += 1
        return True
