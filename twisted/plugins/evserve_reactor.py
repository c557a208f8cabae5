"""The uvloop reactor: `twistd --reactor=uvloop`."""

from twisted.application.reactors import Reactor


uvloop = Reactor("uvloop", "evserve.reactor", "Native stream transports, on uvloop.")
