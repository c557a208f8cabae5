"""The twistd command: `twistd -n evserve`."""

from twisted.application.service import ServiceMaker


evserve = ServiceMaker(
    "evserve",
    "evserve.host.command",
    "An event-driven server whose every service is a plugin file.",
    "evserve",
)
