from types import SimpleNamespace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import QueueError, QueueUnavailable
from evserve.events.postgres import commit
from evserve.events.postgres.calls import Call, Verb
from evserve.events.postgres.commit import GroupCommit
from evserve.events.postgres.waits import Waits


def statement(name):
    return SimpleNamespace(name=name, rows=lambda result: result)


class Echo(Verb):
    """Its statement has the arguments of its calls as parameters; each call gets its row."""

    def __init__(self, name, *, ordered=False, place=1, durable=True, ready=()):
        super().__init__(statement(name))
        self.ordered, self.place, self.durable, self.ready = ordered, place, durable, ready

    def query(self, calls, owner):
        return self.statement, [call.args for call in calls]

    def makes_ready(self, calls):
        return list(self.ready)

    def done(self, calls, rows):
        for call, result in zip(calls, rows, strict=True):
            call.answer(result)


class MemoryConnection:
    """Keeps what is sent until the test answers it."""

    def __init__(self):
        self.sent = []

    def send(self, queries, receiver):
        self.sent.append(([(each.name, values) for each, values in queries], receiver))

    def names(self, place=-1):
        return [name for name, _ in self.sent[place][0]]


class GroupCommitTests(SynchronousTestCase):
    def setUp(self):
        self.clock, self.connection = Clock(), MemoryConnection()
        self.waits = Waits(self.clock)
        names = ("reserve", "reserve_lazily", "notify")
        self.lane = GroupCommit(
            self.clock,
            5.0,
            SimpleNamespace(**{name: statement(name) for name in names}),
            self.waits,
            start=lambda: None,
            why=lambda: QueueUnavailable("no answer"),
            take=lambda row: row,
            give_back=self.fail,
        )
        self.lane.opened(self.connection, 1)
        self.clock.advance(0)
        self.put = Echo("put", ordered=True, place=0)
        self.keyed = Echo("keyed", ordered=True, place=0)
        self.ack = Echo("ack")

    def call(self, verb, args=None):
        return self.lane.add(Call(verb, args))

    def answer(self, *results):
        self.connection.sent[-1][1].done(list(results))

    def test_calls_of_one_turn_share_a_transaction_and_a_statement(self):
        calls = [self.call(self.ack, 1), self.call(self.put, 2), self.call(self.ack, 3)]
        self.assertEqual(self.connection.sent, [])
        self.clock.advance(0)
        [(queries, _)] = self.connection.sent
        self.assertEqual(queries, [("put", [2]), ("ack", [1, 3])])
        self.answer(["two"], ["one", "three"])
        self.assertEqual([self.successResultOf(each) for each in calls], ["one", "two", "three"])

    def test_what_is_called_during_a_commit_shares_the_next_one(self):
        self.call(self.ack, 1)
        self.clock.advance(0)
        for number in (2, 3):
            self.call(self.ack, number)
            self.clock.advance(0)
        self.assertEqual(len(self.connection.sent), 1)
        self.answer([None])
        self.assertEqual(self.connection.sent[1][0], [("ack", [2, 3])])

    def test_what_an_answer_leads_to_is_sent_without_another_turn(self):
        first = self.call(self.ack, 1)
        first.addCallback(lambda _: self.call(self.ack, 2))
        self.clock.advance(0)
        self.answer([None])
        self.assertEqual(self.connection.sent[1][0], [("ack", [2])])

    def test_puts_of_all_kinds_keep_their_order(self):
        for verb, number in ((self.put, 1), (self.keyed, 2), (self.ack, 3), (self.put, 4)):
            self.call(verb, number)
        self.clock.advance(0)
        expected = [("put", [1]), ("keyed", [2]), ("put", [4]), ("ack", [3])]
        self.assertEqual(self.connection.sent[0][0], expected)

    def test_a_batch_is_bounded(self):
        self.patch(commit, "MAX_CALLS", 2)
        for number in range(3):
            self.call(self.ack, number)
        self.clock.advance(0)
        self.answer([None, None])
        self.assertEqual(
            [queries for queries, _ in self.connection.sent],
            [
                [("ack", [0, 1])],
                [("ack", [2])],
            ],
        )

    def test_only_a_batch_that_must_not_be_lost_waits_for_the_disk(self):
        self.waits.add(frozenset("a"), 1, None)
        self.lane.flush()
        self.clock.advance(0)
        self.assertEqual(self.connection.names(), ["reserve_lazily"])
        self.answer([])
        self.waits.wake("a")
        self.call(self.ack)
        self.clock.advance(0)
        self.assertEqual(self.connection.names(), ["ack", "reserve"])

    def test_others_are_told_of_what_nobody_here_takes(self):
        self.call(Echo("put", ready="a"))
        self.clock.advance(0)
        self.assertEqual(self.connection.names(), ["notify"])

    def test_others_are_not_told_of_what_is_taken_here(self):
        taken = self.waits.add(frozenset("a"), 1, None).deferred
        self.call(Echo("put", ready="a"))
        self.clock.advance(0)
        self.assertEqual(self.connection.names(), ["put", "reserve"])
        self.answer([None], [(1, "a", b"", 9, 0.0)])
        self.assertEqual(self.successResultOf(taken), [(1, "a", b"", 9, 0.0)])
        self.assertEqual(len(self.connection.sent), 1)

    def test_others_are_told_of_what_is_left_over_here(self):
        self.waits.add(frozenset("a"), 1, None)
        self.call(Echo("put", ready="aa"))
        self.clock.advance(0)
        self.answer([None], [(1, "a", b"", 9, 0.0)])
        self.assertEqual(self.connection.names(), ["notify"])

    def test_others_are_told_of_what_is_committed_by_itself_after_an_error(self):
        for _ in range(2):
            self.call(Echo("put", ready="a"))
        self.clock.advance(0)
        del self.connection.sent[1:]
        self.connection.sent[0][1].refused(SimpleNamespace(error_field=lambda _: b"oops"))
        names = [name for queries, _ in self.connection.sent[1:] for name, _ in queries]
        self.assertEqual(names, ["put", "put", "notify"])

    def test_who_is_alone_tells_nobody(self):
        self.lane.alone = True
        self.call(Echo("put", ready="a"))
        self.clock.advance(0)
        self.assertEqual(self.connection.names(), ["put"])

    def test_calls_wait_for_a_connection_for_a_while(self):
        self.lane.lost()
        late = self.call(self.ack, 1)
        self.clock.advance(3)
        later = self.call(self.ack, 2)
        self.clock.advance(2)
        self.failureResultOf(late, QueueUnavailable)
        self.lane.opened(self.connection, 1)
        self.clock.advance(0)
        self.assertEqual(self.connection.sent[0][0], [("ack", [2])])
        self.assertNoResult(later)

    def test_a_lost_connection_fails_what_was_sent_and_keeps_what_was_not(self):
        sent = self.call(self.ack, 1)
        self.clock.advance(0)
        kept = self.call(self.ack, 2)
        self.lane.lost()
        self.connection.sent[0][1].lost(QueueUnavailable("lost"))
        self.failureResultOf(sent, QueueError)
        self.lane.opened(self.connection, 1)
        self.clock.advance(0)
        self.answer(["two"])
        self.assertEqual(self.successResultOf(kept), "two")
