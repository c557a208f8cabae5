"""The code of the serial crawler in greenlets: it takes as long as the longest wait.

The patch in the first lines does that. Without it, `urlopen` blocks the one thread that all
greenlets share, and the pages arrive sequentially again.

python with_gevent.py URL...
"""

from gevent import monkey  # isort: skip


monkey.patch_all()

import sys  # noqa: E402 - the patch comes first
import time  # noqa: E402
from http.client import HTTPException  # noqa: E402
from urllib.request import urlopen  # noqa: E402

import gevent  # noqa: E402


def fetch(url: str) -> None:
    """Fetch a page; while this waits, other greenlets run."""
    try:
        with urlopen(url) as response:  # noqa: S310 - the user names the URL
            body = response.read()
    except (OSError, ValueError, HTTPException) as error:
        print(f"{url} {error}")
    else:
        print(f"{url} {len(body)} bytes received, status {response.status}")


began = time.perf_counter()
gevent.joinall([gevent.spawn(fetch, url) for url in sys.argv[1:]], raise_error=True)
print(f"gevent: {time.perf_counter() - began:.2f} s")
