"""A disk whose syncs end when the test says so, and the order of what was done."""

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from evserve.fetch.output.disk import Disk


@define(eq=False)
class SlowDisk:
    """`happened` is for the test to write to as well; syncs are in it when they end."""

    happened: list = field(factory=list)
    clock: Clock = field(factory=Clock)
    syncing: list = field(factory=list)  # targets
    disk: Disk = field(init=False)
    _ended: Deferred = None

    def __attrs_post_init__(self):
        self.disk = Disk(self.clock, self.in_thread, sync=None)

    def in_thread(self, function, targets):
        assert self._ended is None, "one sync at a time"
        self.syncing.append(targets)
        self._ended = Deferred()
        return self._ended

    def turn(self):
        """Let a turn of the reactor pass."""
        for _ in range(3):
            self.clock.advance(0)

    def sync(self, error=None):
        """Let the sync that is under way end."""
        self.turn()
        ended, self._ended = self._ended, None
        self.happened.append("sync")
        if error is None:
            ended.callback(None)
        else:
            ended.errback(error)
        self.turn()

    @property
    def is_syncing(self):
        self.turn()
        return self._ended is not None
