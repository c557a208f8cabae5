"""The serial crawler's own code, in greenlets: as long as the longest wait.

The first two lines are what makes it so. Without the patch `urlopen` blocks the one thread that
all greenlets share, and the pages come one after the other again.

python with_gevent.py URL...
"""

from gevent import monkey  # isort: skip


monkey.patch_all()

import sys  # noqa: E402 - the patch comes first
import time  # noqa: E402
from urllib.request import urlopen  # noqa: E402

import gevent  # noqa: E402


def fetch(url: str) -> None:
    """Fetch a page; where this waits, another greenlet goes on."""
    with urlopen(url) as response:  # noqa: S310 - whoever runs this says what to open
        body = response.read()
        print(f"{url} {len(body)} bytes received, status {response.status}")


began = time.perf_counter()
gevent.joinall([gevent.spawn(fetch, url) for url in sys.argv[1:]], raise_error=True)
print(f"gevent: {time.perf_counter() - began:.2f} s")
