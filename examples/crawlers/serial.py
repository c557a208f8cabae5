"""One page after the other: it takes as long as all waits together.

python serial.py URL...
"""

import sys
import time
from http.client import HTTPException
from urllib.request import urlopen


def fetch(url: str) -> None:
    """Fetch a page; nothing else runs in the meantime."""
    try:
        with urlopen(url) as response:  # noqa: S310 - the user names the URL
            body = response.read()
    except (OSError, ValueError, HTTPException) as error:
        print(f"{url} {error}")
    else:
        print(f"{url} {len(body)} bytes received, status {response.status}")


began = time.perf_counter()
for address in sys.argv[1:]:
    fetch(address)
print(f"serial: {time.perf_counter() - began:.2f} s")
