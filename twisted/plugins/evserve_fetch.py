"""The fetch service: `twistd -n evserve fetch`."""

from evserve.plugin import ServicePlugin


fetch = ServicePlugin(
    "fetch", "evserve.fetch.service", "Fetch URLs, many at once and politely.", listens=False
)
