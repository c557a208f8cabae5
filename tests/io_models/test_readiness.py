"""Models that ask which connections are ready, and one that has things done and is told so."""

from twisted.trial.unittest import SynchronousTestCase

from tests.io_models.conversations import Conversations


class NonblockingPollingTests(Conversations, SynchronousTestCase):
    name = "nonblocking_polling"


class SelectLoopTests(Conversations, SynchronousTestCase):
    name = "select_loop"


class PollLoopTests(Conversations, SynchronousTestCase):
    name = "poll_loop"


class EpollLevelTests(Conversations, SynchronousTestCase):
    name = "epoll_level"


class EpollEdgeTests(Conversations, SynchronousTestCase):
    name = "epoll_edge"


class SelectorsLoopTests(Conversations, SynchronousTestCase):
    name = "selectors_loop"


class IoUringCompletionTests(Conversations, SynchronousTestCase):
    name = "io_uring_completion"


class SignalDrivenTests(Conversations, SynchronousTestCase):
    name = "signal_driven"
