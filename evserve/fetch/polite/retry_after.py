"""The Retry-After header: seconds or a date (RFC 9110, section 10.2.3)."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime


_SECONDS = re.compile(rb"\s*(\d{1,9})\s*")


def retry_after(value: bytes | None, now: float) -> float | None:
    """Return for how many seconds a server asks to be left alone; None if it does not say.

    now: seconds since the epoch, to compare a date with; a date gone by is 0.
    """
    if value is None:
        return None
    seconds = _SECONDS.fullmatch(value)
    if seconds:
        return float(seconds[1])
    try:
        date = parsedate_to_datetime(value.decode("latin-1"))
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000"; every HTTP date is in GMT
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)
