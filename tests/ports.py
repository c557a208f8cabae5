"""Ports for what has to name one before it listens, or listens there again."""

import contextlib
import socket
from pathlib import Path
from random import SystemRandom


RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port():
    """Return a port of 127.0.0.1 that is free, and stays so as far as the kernel has a say.

    A port that `bind` has chosen may go to any client's connection the moment it is closed. This
    one is below those that the kernel gives away.
    """
    end = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32_768
    while True:
        port = SystemRandom().randrange(min(10_000, end // 2), end)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
