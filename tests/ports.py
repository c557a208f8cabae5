"""Ports for servers whose port must be known before they listen."""

import contextlib
import socket
from pathlib import Path
from random import SystemRandom


RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port():
    """Return a free port of 127.0.0.1 that the kernel will not give to a client.

    The kernel chooses ports for clients from a range; this port is below it.
    """
    end = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32_768
    while True:
        port = SystemRandom().randrange(min(10_000, end // 2), end)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
