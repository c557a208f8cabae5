"""The work service: `twistd -n evserve work`."""

from evserve.plugin import ServicePlugin


work = ServicePlugin(
    "work", "evserve.work.service", "Run handlers on the events of a queue.", listens=False
)
