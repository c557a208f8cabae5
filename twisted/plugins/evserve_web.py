"""Twisted's web service on a fast channel: `twistd -n evserve web`."""

from twisted.application.service import ServiceMaker

from evserve.plugin import ServiceMakerPlugin


# Not itself a plugin of `twistd`, where `web` is Twisted's.
web = ServiceMakerPlugin(
    ServiceMaker("web", "evserve.web.tap", "Serve files, WSGI applications, resources.", "web"),
    replaces="twisted.web.tap",
)
