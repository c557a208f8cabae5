"""The engine against a scripted server: one fake transport per connection, and a clock."""

from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import (
    Event,
    NotReserved,
    QueueClosed,
    QueueError,
    QueueFull,
    QueueUnavailable,
    Unsupported,
)
from evserve.events.beanstalk.engine import BeanstalkQueue


STATS = (
    b'---\nid: 7\ntube: "mail"\npri: 3\nage: 0\ndelay: 0\nttr: 60\ntime-left: 59\nreserves: 2\n'
    b"timeouts: 1\nreleases: 0\nburies: 0\nkicks: 0\nstate: reserved\n"
)
TAKEN = b"RESERVED 7 4\r\nbody\r\n"
DESCRIBED = b"OK %d\r\n%s\r\n" % (len(STATS), STATS)
WATCHED = b"WATCHING 2\r\nWATCHING 1\r\n"
WATCH = b"watch mail\r\nignore default\r\n"


class Transport(StringTransport):
    """A transport that tells its protocol when it is closed, as real ones do.

    While it is `stuck` its peer does not read, so that it cannot be closed in good order.
    """

    stuck = False

    def abortConnection(self):
        super().abortConnection()
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def loseConnection(self):
        super().loseConnection()
        if not self.stuck:
            self.protocol.connectionLost(Failure(ConnectionDone()))


class Endpoint:
    """Connects when the test calls `accept` if it is `slow`, and refuses while it is `down`."""

    def __init__(self):
        self.attempts = []
        self.servers = []
        self.down = False
        self.slow = False

    def connect(self, factory):
        if self.down:
            self.attempts.append(None)
            return fail(ConnectError(string="refused"))
        attempt = Deferred()
        self.attempts.append((attempt, factory))
        if not self.slow:
            self.accept()
        return attempt

    def accept(self):
        attempt, factory = self.attempts[-1]
        transport = Transport()
        transport.protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self.servers.append(transport)
        transport.protocol.makeConnection(transport)
        attempt.callback(transport.protocol)


class EngineTestCase(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.queue = BeanstalkQueue(self.endpoint, self.clock, "the test's server")

    def expect(self, server, wire, answer=b""):
        transport = self.endpoint.servers[server]
        self.assertEqual(transport.value(), wire)
        transport.clear()
        transport.protocol.dataReceived(answer)

    def lose(self, server):
        self.endpoint.servers[server].protocol.connectionLost(Failure(ConnectionLost()))

    def take(self, server=0, before=WATCH):
        waiting = self.queue.reserve(["mail"], 9)
        reserve = before + b"reserve-with-timeout 9\r\n"
        self.expect(server, reserve, (WATCHED if before else b"") + TAKEN)
        self.expect(server, b"stats-job 7\r\n", DESCRIBED)
        return self.successResultOf(waiting)


class ProducerTests(EngineTestCase):
    def test_puts_are_pipelined_and_name_the_tube_when_it_changes(self):
        puts = [self.queue.put(tube, b"") for tube in ("a", "a", "b")]
        put = b"put 1024 0 60 0\r\n\r\n"
        wire = b"use a\r\n" + put + put + b"use b\r\n" + put
        self.expect(0, wire, b"USING a\r\nINSERTED 1\r\nINSERTED 2\r\nUSING b\r\nINSERTED 3\r\n")
        self.assertEqual([self.successResultOf(each) for each in puts], ["1", "2", "3"])

    def test_puts_made_before_the_connection_keep_their_order(self):
        self.endpoint.slow = True
        puts = [self.queue.put("a", body) for body in (b"1", b"2")]
        self.endpoint.accept()
        wire = b"use a\r\nput 1024 0 60 1\r\n1\r\nput 1024 0 60 1\r\n2\r\n"
        self.expect(0, wire, b"USING a\r\nINSERTED 1\r\nINSERTED 2\r\n")
        self.assertEqual([self.successResultOf(each) for each in puts], ["1", "2"])

    def test_a_put_without_an_answer_fails_and_is_not_sent_again(self):
        lost = self.queue.put("a", b"")
        self.lose(0)
        self.assertIn("test's server", str(self.failureResultOf(lost, QueueUnavailable).value))
        self.queue.put("a", b"next")
        self.expect(1, b"use a\r\nput 1024 0 60 4\r\nnext\r\n")

    def test_a_put_cannot_land_in_the_wrong_tube(self):
        put = self.queue.put("a", b"")
        self.expect(0, b"use a\r\nput 1024 0 60 0\r\n\r\n", b"OUT_OF_MEMORY\r\nINSERTED 1\r\n")
        self.failureResultOf(put, QueueUnavailable)

    def test_a_silent_server_is_given_up(self):
        put = self.queue.put("a", b"")
        self.clock.pump([5, 1])
        error = self.failureResultOf(put, QueueUnavailable).value
        self.assertIn("did not answer in time", str(error))
        self.assertTrue(self.endpoint.servers[0].disconnected)

    def test_a_server_that_answers_in_turn_is_not_given_up(self):
        puts = [self.queue.put("a", b"") for _ in range(4)]
        server = self.endpoint.servers[0]
        server.protocol.dataReceived(b"USING a\r\n")
        for number in range(4):
            self.clock.pump([1] * 4)
            server.protocol.dataReceived(b"INSERTED %d\r\n" % number)
        self.assertEqual([self.successResultOf(put) for put in puts], ["0", "1", "2", "3"])

    def test_a_reply_that_was_unread_while_the_reactor_was_busy_counts(self):
        put = self.queue.put("a", b"")
        self.clock.advance(60)
        self.expect(0, b"use a\r\nput 1024 0 60 0\r\n\r\n", b"USING a\r\nINSERTED 1\r\n")
        self.assertEqual(self.successResultOf(put), "1")

    def test_a_slow_reply_does_not_extend_the_deadline_of_the_next(self):
        acked = self.queue.ack(self.take())
        self.expect(0, b"delete 7\r\n", b"DELETED\r\n")
        self.successResultOf(acked)
        self.clock.advance(5)
        waiting = self.queue.reserve(["mail"], 20)
        self.expect(0, b"reserve-with-timeout 20\r\n", TAKEN)
        self.clock.pump([5, 1])
        self.failureResultOf(waiting, QueueUnavailable)

    def test_a_malformed_reply_ends_the_connection(self):
        put = self.queue.put("a", b"")
        self.expect(0, b"use a\r\nput 1024 0 60 0\r\n\r\n", b"USING a\r\nINSERTED\r\n")
        error = self.failureResultOf(put, QueueUnavailable).value
        self.assertIn("does not speak beanstalkd", str(error))

    def test_an_answered_call_leaves_no_deadline(self):
        put = self.queue.put("a", b"")
        self.expect(0, b"use a\r\nput 1024 0 60 0\r\n\r\n", b"USING a\r\nINSERTED 1\r\n")
        self.successResultOf(put)
        self.clock.advance(100)
        self.assertFalse(self.endpoint.servers[0].disconnected)

    def test_a_server_of_another_protocol_is_given_up(self):
        for noise in (b"HTTP/1.1 400 Bad Request\r\n", b"OK x\r\n", b"INSERTED\r\n"):
            depth = self.queue.depth("a")
            self.expect(-1, b"stats-tube a\r\n", noise)
            self.failureResultOf(depth)
            self.queue.depth("a")
            self.lose(-1)
            self.flushLoggedErrors()

    def test_a_server_that_did_not_understand_is_hung_up_on(self):
        """It may have taken a body for commands, so that later replies are not what they seem."""
        for reply in (b"BAD_FORMAT\r\n", b"UNKNOWN_COMMAND\r\n", b"EXPECTED_CRLF\r\n"):
            puts = [self.queue.put("a", b"delete 1") for _ in range(2)]
            wire = b"use a\r\n" + 2 * b"put 1024 0 60 8\r\ndelete 1\r\n"
            self.expect(-1, wire, b"USING a\r\n" + reply + b"INSERTED 1\r\n")
            self.failureResultOf(puts[0], QueueError)
            self.assertIn("hung up", str(self.failureResultOf(puts[1], QueueUnavailable).value))
            self.assertTrue(self.endpoint.servers[-1].disconnected)

    def test_a_server_without_bindings_is_not_hung_up_on(self):
        calls = [self.queue.bind("a", "b"), self.queue.unbind("a", "b"), self.queue.put("a", b"")]
        server = self.endpoint.servers[0].protocol
        server.dataReceived(2 * b"UNKNOWN_COMMAND\r\n" + b"USING a\r\nINSERTED 1\r\n")
        self.failureResultOf(calls[0], Unsupported)
        self.failureResultOf(calls[1], Unsupported)
        self.assertEqual(self.successResultOf(calls[2]), "1")

    def test_an_unexpected_reply_ends_the_connection(self):
        self.queue.depth("a").addErrback(lambda _: None)
        self.expect(0, b"stats-tube a\r\n", b"NOT_FOUND\r\nNOT_FOUND\r\n")
        self.assertTrue(self.endpoint.servers[0].disconnected)


class KeyTests(EngineTestCase):
    """A server that does not know put-key would take the body for commands."""

    def test_the_body_of_a_put_with_a_key_never_reaches_a_server_without_keys(self):
        refused = self.queue.put("a", b"delete 1\r\n", key="k")
        self.expect(0, b"list-bindings\r\n", b"UNKNOWN_COMMAND\r\n")
        self.failureResultOf(refused, Unsupported)
        self.failureResultOf(self.queue.put("a", b"delete 1\r\n", key="k"), Unsupported)
        self.assertEqual(self.endpoint.servers[0].value(), b"")

    def test_puts_with_and_without_keys_keep_their_order(self):
        self.endpoint.slow = True
        puts = [
            self.queue.put("a", b"1"),
            self.queue.put("a", b"2", key="k"),
            self.queue.put("a", b"3"),
            self.queue.put("b", b"4", key="k"),
        ]
        self.endpoint.accept()
        first = b"use a\r\nput 1024 0 60 1\r\n1\r\n"
        self.expect(0, first + b"list-bindings\r\n", b"USING a\r\nINSERTED 1\r\n")
        self.expect(0, b"", b"OK 4\r\n---\n\r\n")
        rest = b"put-key k 1024 0 60 1\r\n2\r\nput 1024 0 60 1\r\n3\r\nuse b\r\n"
        rest += b"put-key k 1024 0 60 1\r\n4\r\n"
        self.expect(0, rest, b"INSERTED 2\r\nINSERTED 3\r\nUSING b\r\nEXISTS 9\r\n")
        self.assertEqual([self.successResultOf(each) for each in puts], ["1", "2", "3", "9"])

    def test_another_server_is_asked_again(self):
        refused = self.queue.put("a", b"", key="k")
        self.expect(0, b"list-bindings\r\n", b"UNKNOWN_COMMAND\r\n")
        self.failureResultOf(refused, Unsupported)
        self.lose(0)
        stored = self.queue.put("a", b"", key="k")
        self.expect(1, b"list-bindings\r\n", b"OK 4\r\n---\n\r\n")
        self.expect(1, b"use a\r\nput-key k 1024 0 60 0\r\n\r\n", b"USING a\r\nINSERTED 1\r\n")
        self.assertEqual(self.successResultOf(stored), "1")


class HistoryTests(EngineTestCase):
    """A result, like a body, must never reach a server that would take it for commands."""

    PROBE = b"list-bindings\r\n"
    KEEP = b"delete-keep 7 2147483647 10\r\ndelete 1\r\n\r\n"

    def test_a_result_is_sent_once_the_server_is_known_to_take_it(self):
        event = self.take()
        acked = self.queue.ack(event, result=b"delete 1\r\n", keep=2**32 - 1)
        self.expect(0, self.PROBE)
        self.assertNoResult(acked)
        self.expect(0, b"", b"OK 0\r\n\r\n")
        self.expect(0, self.KEEP, b"DELETED\r\n")
        self.successResultOf(acked)
        event = self.take(before=b"")
        acked = self.queue.ack(event, result=b"delete 1\r\n", keep=2**32 - 1)
        self.expect(0, self.KEEP, b"DELETED\r\n")
        self.successResultOf(acked)

    def test_a_server_without_a_history_still_holds_the_event(self):
        event = self.take()
        acked = self.queue.ack(event, result=b"delete 1\r\n", keep=1)
        self.expect(0, self.PROBE, b"UNKNOWN_COMMAND\r\n")
        self.failureResultOf(acked, Unsupported)
        self.failureResultOf(self.queue.bury(event, "delete 1", keep=1), Unsupported)
        acked = self.queue.ack(event)
        self.expect(0, b"delete 7\r\n", b"DELETED\r\n")
        self.successResultOf(acked)
        self.assertEqual(len(self.endpoint.servers), 1)

    def test_a_history_that_is_none_is_not_believed(self):
        listed = self.queue.history()
        self.expect(0, b"history 100\r\n", b"OK 3\r\n{}\n\r\n")
        self.failureResultOf(listed, QueueUnavailable)
        self.assertTrue(self.endpoint.servers[0].disconnected)


class BatchTests(EngineTestCase):
    def take_many(self):
        waiting = self.queue.reserve_many(["mail"], 5, 9)
        batch = b"RESERVED_BATCH 2\r\nRESERVED 7 1 mail\r\na\r\nRESERVED 8 1 mail\r\nb\r\n"
        self.expect(0, WATCH + b"reserve-batch 5 9\r\n", WATCHED + batch)
        self.expect(0, b"stats-job 7\r\nstats-job 8\r\n", DESCRIBED + DESCRIBED)
        return self.successResultOf(waiting)

    def test_a_connection_is_used_again_when_all_its_events_are_settled(self):
        first, second = self.take_many()
        self.assertEqual((first.id, second.id, second.body), ("7", "8", b"b"))
        self.queue.ack(first)
        self.queue.reserve(["mail"], 9)
        self.assertEqual(len(self.endpoint.servers), 2)
        self.queue.retry(second)
        self.queue.reserve(["mail"], 9)
        wire = b"delete 7\r\nrelease 8 3 0\r\nreserve-with-timeout 9\r\n"
        self.expect(0, wire, b"DELETED\r\nRELEASED\r\n")

    def test_acknowledgements_that_are_refused_keep_the_connection(self):
        events = self.take_many()
        refused = [self.queue.ack(each) for each in events]
        self.expect(0, b"delete 7\r\ndelete 8\r\n", b"OUT_OF_MEMORY\r\nOUT_OF_MEMORY\r\n")
        for each in refused:
            self.failureResultOf(each, QueueFull)
        self.queue.ack(events[0])
        self.queue.reserve(["mail"], 9)
        self.assertEqual(len(self.endpoint.servers), 2)
        self.queue.ack(events[1])
        self.queue.reserve(["mail"], 9)
        self.expect(0, b"delete 7\r\ndelete 8\r\nreserve-with-timeout 9\r\n")

    def test_a_server_without_batches_gives_what_is_ready_one_by_one(self):
        waiting = self.queue.reserve_many(["mail"], 5, 9)
        self.expect(0, WATCH + b"reserve-batch 5 9\r\n", WATCHED + b"BAD_FORMAT\r\n")
        self.expect(0, b"reserve-with-timeout 9\r\n", TAKEN)
        self.expect(0, b"reserve-with-timeout 0\r\n", b"TIMED_OUT\r\n")
        self.expect(0, b"stats-job 7\r\n", DESCRIBED)
        [event] = self.successResultOf(waiting)
        self.queue.ack(event)
        self.queue.reserve_many(["mail"], 5, 9)
        self.expect(0, b"delete 7\r\nreserve-with-timeout 9\r\n")

    def test_a_batch_that_came_when_its_caller_cancelled_is_given_back(self):
        waiting = self.queue.reserve_many(["mail"], 5)
        batch = b"RESERVED_BATCH 1\r\nRESERVED 7 1 mail\r\na\r\n"
        self.expect(0, WATCH + b"reserve-batch 5 30\r\n", WATCHED + batch)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(self.endpoint.servers[0].disconnecting)


class SharedConnectionTests(EngineTestCase):
    def test_calls_without_a_reservation_share_one_connection(self):
        types = self.queue.types()
        self.expect(0, b"list-tubes\r\n", b"OK 14\r\n---\n- default\n\r\n")
        self.assertEqual(self.successResultOf(types), ["default"])
        kicked = self.queue.kick("mail", 5)
        self.expect(0, b"use mail\r\nkick 5\r\n", b"USING mail\r\nKICKED 2\r\n")
        self.assertEqual(self.successResultOf(kicked), 2)
        bound = [self.queue.bind("a", "b"), self.queue.unbind("a", "b")]
        self.expect(0, b"bind a b\r\nunbind a b\r\n", b"BOUND\r\nUNBOUND\r\n")
        self.assertEqual([self.successResultOf(each) for each in bound], [None, None])


class ConsumerTests(EngineTestCase):
    def test_an_event_carries_what_the_server_knows(self):
        event = self.take()
        expected = Event("7", "mail", b"body", 3, 0, 60, attempts=2, timeouts=1)
        self.assertEqual(event, expected)

    def ack(self, event):
        acked = self.queue.ack(event)
        self.expect(0, b"delete 7\r\n", b"DELETED\r\n")
        self.assertIsNone(self.successResultOf(acked))

    def test_an_acknowledgement_and_the_next_wait_share_a_connection(self):
        event = self.take()
        acked = self.queue.ack(event)
        self.queue.reserve(["mail"], 9)
        self.expect(0, b"delete 7\r\nreserve-with-timeout 9\r\n", b"DELETED\r\n")
        self.assertIsNone(self.successResultOf(acked))
        self.assertEqual(len(self.endpoint.servers), 1)

    def test_an_event_whose_ttr_may_be_over_is_touched_before_it_is_deleted(self):
        """The server would delete it although it is ready again."""
        event = self.take()
        self.clock.advance(55)
        late = self.queue.ack(event)
        self.expect(0, b"touch 7\r\n", b"TOUCHED\r\n")
        self.expect(0, b"delete 7\r\n", b"DELETED\r\n")
        self.assertIsNone(self.successResultOf(late))

    def test_an_event_whose_ttr_is_over_is_not_deleted(self):
        event = self.take()
        self.clock.advance(60)
        late = self.queue.ack(event)
        self.expect(0, b"touch 7\r\n", b"NOT_FOUND\r\n")
        self.failureResultOf(late, NotReserved)
        self.expect(0, b"")

    def test_an_event_whose_ttr_is_over_is_not_buried_and_leaves_no_record(self):
        event = self.take()
        self.clock.advance(60)
        late = self.queue.bury(event, "no such image")
        self.expect(0, b"touch 7\r\n", b"NOT_FOUND\r\n")
        self.failureResultOf(late, NotReserved)
        self.assertEqual(len(self.endpoint.servers), 1)

    def test_a_touch_that_was_answered_too_late_proves_nothing(self):
        event = self.take()
        self.clock.advance(58)
        late = self.queue.ack(event)
        self.clock.advance(60)
        self.expect(0, b"touch 7\r\n", b"TOUCHED\r\n")
        self.failureResultOf(late, NotReserved)
        self.assertTrue(self.endpoint.servers[0].disconnecting)

    def test_the_ttr_counts_from_the_last_touch(self):
        event = self.take()
        self.clock.advance(50)
        self.queue.touch(event)
        self.expect(0, b"touch 7\r\n", b"TOUCHED\r\n")
        self.clock.advance(50)
        self.ack(event)

    def test_a_reservation_that_a_touch_finds_lost_frees_its_connection(self):
        event = self.take()
        touched = self.queue.touch(event)
        self.expect(0, b"touch 7\r\n", b"NOT_FOUND\r\n")
        self.failureResultOf(touched, NotReserved)
        self.failureResultOf(self.queue.ack(event), NotReserved)
        self.queue.reserve(["mail"], 9)
        self.expect(0, b"reserve-with-timeout 9\r\n")

    def test_an_event_that_its_consumer_changed_changes_no_command(self):
        event = self.take()
        changed = evolve(event, id="7\r\ndelete 8")
        self.assertNotIn("\n", str(self.failureResultOf(self.queue.ack(changed)).value))
        self.queue.retry(evolve(event, priority="0 0\r\ndelete 8"))
        self.expect(0, b"release 7 3 0\r\n")

    def test_an_acknowledgement_that_is_refused_can_be_repeated(self):
        event = self.take()
        acked = self.queue.ack(event)
        self.expect(0, b"delete 7\r\n", b"OUT_OF_MEMORY\r\n")
        self.failureResultOf(acked, QueueFull)
        self.queue.reserve(["mail"], 9)
        self.assertEqual(len(self.endpoint.servers), 2)
        acked = self.queue.ack(event)
        self.expect(0, b"delete 7\r\n", b"DELETED\r\n")
        self.successResultOf(acked)
        self.queue.reserve(["mail"], 0)
        self.expect(0, b"reserve-with-timeout 0\r\n")

    def test_an_acknowledgement_can_be_repeated_on_a_connection_that_waits_again(self):
        event = self.take()
        refused = self.queue.ack(event)
        waiting = self.queue.reserve(["mail"], 9)
        self.expect(0, b"delete 7\r\nreserve-with-timeout 9\r\n", b"OUT_OF_MEMORY\r\n")
        self.failureResultOf(refused, QueueFull)
        acked = self.queue.ack(event)
        self.queue.reserve(["mail"], 9)
        self.assertEqual(len(self.endpoint.servers), 2)
        self.expect(0, b"delete 7\r\n", b"TIMED_OUT\r\nDELETED\r\n")
        self.assertNoResult(waiting)
        self.successResultOf(acked)

    def test_a_reserved_event_keeps_its_connection(self):
        self.take()
        self.queue.reserve(["mail"], 9)
        self.assertEqual(len(self.endpoint.servers), 2)

    def test_other_types_are_watched_with_as_few_commands_as_possible(self):
        self.queue.ack(self.take())
        self.queue.reserve(["mail", "fax"], 0)
        self.expect(0, b"delete 7\r\nwatch fax\r\nreserve-with-timeout 0\r\n")

    def test_a_wait_that_ended_without_an_event_leaves_its_connection_to_the_next(self):
        waiting = self.queue.reserve(["mail"], 0)
        self.expect(0, WATCH + b"reserve-with-timeout 0\r\n", WATCHED + b"TIMED_OUT\r\n")
        self.assertIsNone(self.successResultOf(waiting))
        self.queue.reserve(["mail"], 0)
        self.expect(0, b"reserve-with-timeout 0\r\n")

    def test_an_idle_connection_that_is_lost_is_not_used_again(self):
        acked = self.queue.ack(self.take())
        self.expect(0, b"delete 7\r\n", b"DELETED\r\n")
        self.successResultOf(acked)
        self.lose(0)
        self.queue.reserve(["mail"], 9)
        self.expect(1, WATCH + b"reserve-with-timeout 9\r\n")

    def test_a_reservation_lost_while_its_event_is_buried_is_not_settled_elsewhere(self):
        buried = self.queue.bury(self.take(), "no such image")
        self.lose(0)
        self.endpoint.servers[1].protocol.dataReceived(b"USING evserve.errors\r\nINSERTED 8\r\n")
        self.failureResultOf(buried, QueueUnavailable)

    def test_a_reservation_is_touched_where_it_is_held(self):
        touched = self.queue.touch(self.take())
        self.expect(0, b"touch 7\r\n", b"TOUCHED\r\n")
        self.assertIsNone(self.successResultOf(touched))

    def test_a_long_wait_is_renewed(self):
        """So that a server that vanished without a word is noticed."""
        waiting = self.queue.reserve(["mail"])
        self.expect(0, WATCH + b"reserve-with-timeout 30\r\n", WATCHED)
        self.clock.advance(30)
        self.expect(0, b"", b"TIMED_OUT\r\n")
        self.expect(0, b"reserve-with-timeout 30\r\n")
        self.assertNoResult(waiting)
        self.clock.pump([35, 1])
        self.failureResultOf(waiting, QueueUnavailable)

    def test_a_lost_connection_fails_waits_and_forgets_reservations(self):
        event = self.take()
        waiting = self.queue.reserve(["mail"])
        self.lose(0)
        self.lose(1)
        self.failureResultOf(waiting, QueueUnavailable)
        for settle in (self.queue.ack, self.queue.retry, self.queue.touch):
            self.failureResultOf(settle(event), NotReserved)
        self.assertEqual(len(self.endpoint.servers), 2)

    def test_an_acknowledgement_without_an_answer_is_not_sent_again(self):
        acked = self.queue.ack(self.take())
        self.lose(0)
        self.failureResultOf(acked, QueueUnavailable)
        self.queue.reserve(["mail"], 9)
        self.expect(1, WATCH + b"reserve-with-timeout 9\r\n")

    def test_a_cancelled_wait_closes_its_connection(self):
        waiting = self.queue.reserve(["mail"])
        self.expect(0, WATCH + b"reserve-with-timeout 30\r\n", WATCHED)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(self.endpoint.servers[0].disconnecting)

    def test_a_cancelled_wait_lets_the_acknowledgement_before_it_through(self):
        acked = self.queue.ack(self.take())
        waiting = self.queue.reserve(["mail"])
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertFalse(self.endpoint.servers[0].disconnecting)
        self.endpoint.servers[0].protocol.dataReceived(b"DELETED\r\n")
        self.assertIsNone(self.successResultOf(acked))
        self.assertTrue(self.endpoint.servers[0].disconnecting)

    def test_the_record_of_a_buried_event_comes_first(self):
        event = self.take()
        buried = self.queue.bury(event, "no such image")
        self.assertIn(b"use evserve.errors\r\nput ", self.endpoint.servers[1].value())
        self.assertEqual(self.endpoint.servers[0].value(), b"")
        self.endpoint.servers[1].protocol.dataReceived(b"USING evserve.errors\r\nINSERTED 8\r\n")
        self.expect(0, b"bury 7 3\r\n", b"BURIED\r\n")
        self.assertIsNone(self.successResultOf(buried))

    def test_an_event_whose_record_was_refused_can_still_be_settled(self):
        event = self.take()
        buried = self.queue.bury(event, "no such image")
        self.endpoint.servers[1].protocol.dataReceived(
            b"USING evserve.errors\r\nOUT_OF_MEMORY\r\n"
        )
        self.failureResultOf(buried)
        self.queue.retry(event)
        self.expect(0, b"release 7 3 0\r\n")

    def test_an_event_that_vanished_while_it_was_reserved_is_skipped(self):
        self.queue.reserve(["mail"], 9)
        self.expect(0, WATCH + b"reserve-with-timeout 9\r\n", WATCHED + TAKEN)
        self.expect(0, b"stats-job 7\r\n", b"NOT_FOUND\r\n")
        self.expect(0, b"reserve-with-timeout 9\r\n")


class ReconnectTests(EngineTestCase):
    def setUp(self):
        super().setUp()
        self.logged = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def test_attempts_grow_rarer_and_end_with_the_patience(self):
        self.endpoint.down = True
        put = self.queue.put("a", b"")
        self.clock.pump([0.01] * 510)
        error = self.failureResultOf(put, QueueUnavailable).value
        self.assertIn("cannot reach the test's server", str(error))
        self.assertIn("refused", str(error))
        self.assertTrue(5 <= len(self.endpoint.attempts) <= 8, len(self.endpoint.attempts))

    def test_a_hundred_callers_make_no_more_attempts_than_one(self):
        self.endpoint.down = True
        waits = [self.queue.reserve(["mail"]) for _ in range(100)]
        self.clock.pump([0.01] * 510)
        for wait in waits:
            self.failureResultOf(wait, QueueUnavailable)
        self.assertLessEqual(len(self.endpoint.attempts), 8)

    def test_a_proxy_with_no_server_behind_it_is_not_overrun(self):
        lost = 0
        for _ in range(510):
            self.queue.put("a", b"").addErrback(lambda failure: failure.trap(QueueUnavailable))
            if len(self.endpoint.servers) > lost:
                self.lose(-1)
                lost += 1
            self.clock.advance(0.01)
        self.assertTrue(5 <= lost <= 9, lost)

    def test_the_outage_is_logged_once_and_so_is_its_end(self):
        self.endpoint.down = True
        self.queue.put("a", b"")
        self.clock.pump([0.01] * 100)
        self.endpoint.down = False
        self.clock.pump([0.01] * 200)  # the next attempt may be 1.6 seconds away
        self.expect(0, b"use a\r\nput 1024 0 60 0\r\n\r\n")
        formats = [event["log_format"].split()[0] for event in self.logged]
        self.assertEqual(formats, ["cannot", "reached"])

    def test_an_endpoint_that_never_answers_is_given_up(self):
        self.endpoint.slow = True
        put = self.queue.put("a", b"")
        self.clock.advance(5)
        self.clock.advance(0)
        error = self.failureResultOf(put, QueueUnavailable).value
        self.assertEqual(str(error), "cannot reach the test's server: no answer")

    def test_a_connection_made_after_its_call_was_cancelled_is_closed(self):
        self.endpoint.slow = True
        waiting = self.queue.reserve(["mail"])
        attempt, _ = self.endpoint.attempts[0]
        self.patch(attempt, "cancel", lambda: None)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.endpoint.accept()
        self.assertTrue(self.endpoint.servers[0].disconnected)

    def test_a_cancelled_call_abandons_the_attempt(self):
        self.endpoint.slow = True
        waiting = self.queue.reserve(["mail"])
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.clock.advance(60)
        self.assertEqual(len(self.endpoint.attempts), 1)


class CloseTests(EngineTestCase):
    def test_close_closes_connections_and_fails_unanswered_calls(self):
        event = self.take()
        put = self.queue.put("a", b"")
        closed = self.queue.close()
        self.failureResultOf(put, QueueClosed)
        self.failureResultOf(self.queue.put("a", b""), QueueClosed)
        self.failureResultOf(self.queue.reserve(["a"]), QueueClosed)
        self.failureResultOf(self.queue.ack(event), NotReserved)
        self.successResultOf(closed)
        self.successResultOf(self.queue.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_closed_queue_is_named(self):
        self.queue.close()
        error = self.failureResultOf(self.queue.put("a", b""), QueueClosed).value
        self.assertEqual(str(error), "the test's server was closed")

    def test_close_waits_a_second_for_a_server_that_does_not_read(self):
        self.take()
        self.endpoint.servers[0].stuck = True
        closed = self.queue.close()
        self.assertNoResult(closed)
        self.clock.advance(1)
        self.successResultOf(closed)

    def test_close_ends_calls_that_wait_for_a_connection(self):
        self.endpoint.slow = True
        calls = [self.queue.put("a", b""), self.queue.reserve(["a"])]
        self.successResultOf(self.queue.close())
        for call in calls:
            self.failureResultOf(call, QueueClosed)
