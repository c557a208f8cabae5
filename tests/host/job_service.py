"""A service that opens no port."""

from twisted.application.service import Service
from twisted.python.usage import Options  # noqa: F401 - part of every service's module


def makeService(options, host):
    return Service()
