"""A connection's commands: everything the wire protocol can ask of the queue."""

from attrs import define

from evserve.queue.consuming import Consuming
from evserve.queue.inspecting import Inspecting
from evserve.queue.producing import Producing


@define(eq=False, repr=False)
class Session(Producing, Consuming, Inspecting):
    """See Channel for how commands and replies flow."""
