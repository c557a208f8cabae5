"""evserve: an event-driven server on Twisted whose every service is a plugin file."""

__version__ = "0.1.0"
