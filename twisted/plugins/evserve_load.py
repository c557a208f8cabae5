"""The load generator: `twistd -n evserve load`."""

from evserve.plugin import ServicePlugin


load = ServicePlugin(
    "load",
    "evserve.load.service",
    "Put load on a server, check its answers and time them.",
    listens=False,
)
