"""The queue: `twistd -n evserve queue`."""

from evserve.plugin import ServicePlugin


queue = ServicePlugin(
    "queue", "evserve.queue.service", "Keep events for consumers (beanstalkd's protocol)."
)
