"""The operator's view of a queue: `twistd -n evserve events`."""

from evserve.plugin import ServicePlugin


events = ServicePlugin(
    "events", "evserve.inspect.service", "Look into a queue, and mend it.", listens=False
)
