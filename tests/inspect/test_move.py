import json

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import ERRORS, Capability, Depth, QueueFull, QueueUnavailable
from evserve.inspect.move import MARK, Move, MoveFailed
from evserve.testing import MemoryQueue


class SlowQueue(MemoryQueue):
    """A queue whose puts are answered when the test says so."""

    answers = None

    def put(self, *words, **how):
        done = super().put(*words, **how)
        if self.answers is not None:
            self.answers.append((answer := Deferred(), done))
            return answer
        return done

    def answer(self):
        answers, self.answers = self.answers, None
        for answer, done in answers:
            done.chainDeferred(answer)


class MoveTestCase(SynchronousTestCase):
    def setUp(self):
        self.clock = Clock()
        self.source, self.target = MemoryQueue(self.clock), SlowQueue(self.clock)

    def result(self, value):
        return self.successResultOf(
            Deferred.fromCoroutine(value) if hasattr(value, "cr_frame") else value
        )

    def move(self, *types, **how):
        return Move(self.source, self.target, self.clock, "the source", types, **how)

    def run_move(self, *types, **how):
        move = self.move(*types, **how)
        self.result(move.run())
        return move

    def fail_move(self, *errors, **how):
        return str(
            self.failureResultOf(Deferred.fromCoroutine(self.move(**how).run()), *errors).value
        )

    def put(self, body, event_type="mail", **how):
        return self.result(self.source.put(event_type, body, **how))

    def bury(self, body, reason="no such image", **how):
        event = self.result(self.source.reserve_event(self.put(body)))
        self.result(self.source.bury(event, reason, **how))

    def bodies(self, queue, event_type="mail"):
        events = self.result(queue.reserve_many([event_type], 1000, 0))
        return [event.body for event in events]

    def depth(self, queue, event_type="mail"):
        return self.result(queue.depth(event_type))


class MoveTests(MoveTestCase):
    def test_ready_events_keep_their_order_priority_and_ttr(self):
        for number in range(250):
            self.put(b"%d" % number, ttr=9)
        self.put(b"urgent", priority=3)
        move = self.run_move()
        self.assertEqual(move.count, 251)
        self.assertEqual(self.depth(self.source), Depth())
        first = self.result(self.target.reserve(["mail"]))
        self.assertEqual((first.body, first.priority, first.ttr), (b"urgent", 3, 60))
        second = self.result(self.target.reserve(["mail"]))
        self.assertEqual((second.body, second.priority, second.ttr), (b"0", 1024, 9))
        self.assertEqual(self.bodies(self.target), [b"%d" % number for number in range(1, 250)])

    def test_a_delay_ends_when_it_would_have_ended(self):
        self.put(b"later", delay=60)
        self.clock.advance(20)
        self.run_move()
        self.assertEqual(self.depth(self.target), Depth(delayed=1))
        self.clock.advance(39)
        self.assertEqual(self.bodies(self.target), [])
        self.clock.advance(1)
        self.assertEqual(self.bodies(self.target), [b"later"])

    def test_a_buried_event_is_buried_with_its_reason(self):
        self.bury(b"hopeless")
        move = self.run_move()
        self.assertEqual(self.depth(self.target), Depth(buried=1))
        self.assertEqual(self.depth(self.source, ERRORS), Depth())
        [record] = map(json.loads, self.bodies(self.target, ERRORS))
        self.assertEqual((record["reason"], record["type"]), ("no such image", "mail"))
        self.assertEqual(record["id"], self.result(self.target.peek("mail", 3)).event.id)
        self.assertEqual(move.count, 2)

    def test_the_history_knows_the_reason_too(self):
        self.bury(b"hopeless", keep=1000)
        self.run_move("mail")
        self.assertEqual(self.depth(self.source, ERRORS), Depth(ready=1))
        [record] = map(json.loads, self.bodies(self.target, ERRORS))
        self.assertEqual(record["reason"], "no such image")

    def test_records_that_are_about_nothing_there_are_moved(self):
        for body in (b"no JSON", b"[]", b'{"id": 1, "type": "mail", "reason": ""}'):
            self.put(body, ERRORS)
        self.run_move()
        self.assertEqual(self.depth(self.target, ERRORS), Depth(ready=3))

    def test_a_paused_type_is_moved_too(self):
        self.put(b"1")
        self.result(self.source.pause("mail", 100))
        self.run_move()
        self.assertEqual(self.bodies(self.target), [b"1"])

    def test_only_the_named_types_are_moved(self):
        self.put(b"1")
        self.put(b"2", "sms")
        self.run_move("sms", "fax")
        self.assertEqual(self.bodies(self.target, "sms"), [b"2"])
        self.assertEqual(self.depth(self.source), Depth(ready=1))

    def test_what_consumers_have_reserved_is_waited_for(self):
        self.put(b"given back")
        event = self.result(self.source.reserve(["mail"]))
        running = Deferred.fromCoroutine(self.move().run())
        self.clock.pump([0.5] * 10)
        self.assertNoResult(running)
        self.result(self.source.retry(event))
        self.clock.pump([0.5] * 3)
        self.successResultOf(running)
        self.assertEqual(self.bodies(self.target), [b"given back"])

    def test_what_consumers_have_reserved_may_be_left_to_them(self):
        self.put(b"")
        self.result(self.source.reserve(["mail"]))
        self.run_move(wait=False)
        self.assertEqual(self.depth(self.source), Depth(reserved=1))

    def test_the_rate_is_kept(self):
        for _ in range(50):
            self.put(b"")
        running = Deferred.fromCoroutine(self.move(rate=10).run())
        self.clock.pump([0.1] * 19)
        self.assertIn(self.depth(self.target).ready, range(18, 22))
        self.clock.pump([0.1] * 40)
        self.successResultOf(running)

    def test_progress_is_told(self):
        told = []
        for _ in range(3):
            self.put(b"")
        self.run_move(progress=lambda *words: told.append(words))
        self.assertEqual(told, [(1, 3), (2, 3), (3, 3)])

    def test_nothing_is_left_behind_but_the_events(self):
        self.put(b"")
        self.run_move()
        self.assertEqual(self.result(self.target.types()), ["mail"])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RefusalTests(MoveTestCase):
    def test_the_same_queue_is_refused(self):
        for capabilities in (self.target.capabilities, Capability.LIST_TYPES):
            self.source.capabilities = capabilities
            self.put(b"")
            self.target = self.source
            self.assertEqual(self.fail_move(MoveFailed), "--from and --to are the same queue")
            self.assertEqual(self.result(self.source.types()), ["mail"])

    def test_a_type_that_is_bound_at_the_target_is_refused(self):
        self.put(b"")
        self.result(self.target.bind("mail", "audit"))
        self.assertIn("mail is bound to audit at the target", self.fail_move(MoveFailed))
        self.assertEqual(self.depth(self.source), Depth(ready=1))
        self.assertEqual(self.depth(self.target, MARK), Depth())

    def test_a_refusal_keeps_the_mark_of_a_move_that_died(self):
        with_mark = self.move()
        self.result(with_mark._set_mark())
        self.result(self.target.bind("mail", "audit"))
        self.put(b"")
        self.fail_move(MoveFailed)
        self.assertEqual(self.depth(self.target, MARK), Depth(delayed=1))

    def test_what_the_target_does_not_take_stays_at_the_source(self):
        for number in range(3):
            self.put(b"%d" % number)
        self.patch(self.target, "put", self.refuse)
        failed = self.fail_move(MoveFailed)
        self.assertEqual(failed, "event 1 (mail): the target did not take it: no room")
        self.assertEqual(self.bodies(self.source), [b"0", b"1", b"2"])
        self.assertEqual(self.depth(self.target), Depth())

    def refuse(self, event_type, body, **how):
        if event_type == MARK:
            return MemoryQueue.put(self.target, event_type, body, **how)
        answer = Deferred()
        answer.errback(QueueFull("no room"))
        return answer


class DeathTests(MoveTestCase):
    """The process or a connection ends between the target's answer and the acknowledgement."""

    def interrupted_move(self):
        """Lose the source after the target has stored two of three events."""
        for number in range(3):
            self.put(b"%d" % number)
        asked, put = [], self.target.put

        def put_and_die(event_type, *words, **how):
            done = put(event_type, *words, **how)
            asked.append(event_type)
            if asked.count("mail") == 2:
                self.source.go_away()
            return done

        self.patch(self.target, "put", put_and_die)
        self.fail_move(QueueUnavailable)
        self.source.come_back()
        self.patch(self.target, "put", put)

    def test_a_move_that_is_started_again_brings_nothing_twice(self):
        self.interrupted_move()
        self.assertTrue(self.depth(self.target).ready)
        self.assertTrue(self.depth(self.source).ready)
        self.run_move()
        self.assertEqual(sorted(self.bodies(self.target)), [b"0", b"1", b"2"])
        self.assertEqual(self.depth(self.source), Depth())

    def test_a_target_without_keys_may_get_an_event_twice_and_loses_none(self):
        self.target.capabilities &= ~Capability.KEYS
        self.interrupted_move()
        self.run_move()
        self.assertEqual({*self.bodies(self.target)}, {b"0", b"1", b"2"})
        self.assertEqual(self.result(self.target.types()), ["mail"])

    def test_a_source_that_gives_its_ids_again_loses_nothing(self):
        for _ in range(2):
            self.source = MemoryQueue(self.clock)
            self.put(b"the same id, the same body")
            self.run_move()
        self.assertEqual(len(self.bodies(self.target)), 2)

    def test_a_buried_event_stays_buried_at_the_source_until_it_is_at_the_target(self):
        self.bury(b"hopeless")
        self.patch(self.target, "reserve_event", lambda _: self.target.go_away() or Deferred())
        running = Deferred.fromCoroutine(self.move("mail").run())
        self.assertNoResult(running)
        self.assertEqual(self.depth(self.source), Depth(buried=1))

    def test_an_event_that_a_consumer_of_the_source_gets_meanwhile_is_not_moved(self):
        self.bury(b"hopeless")
        bury = self.target.bury

        def bury_and_kick(*words):
            self.result(self.source.kick("mail", 1))
            self.result(self.source.ack(self.result(self.source.reserve(["mail"]))))
            return bury(*words)

        self.patch(self.target, "bury", bury_and_kick)
        self.assertEqual(self.run_move("mail").count, 0)
        self.assertEqual(self.depth(self.target), Depth())

    def test_an_event_is_held_while_the_target_is_slow(self):
        self.put(b"1", ttr=3)
        move = self.move()
        mark = self.target.put

        def slow_from_now_on(event_type, *words, **how):
            self.patch(self.target, "put", mark)
            self.target.answers = None if event_type == MARK else []
            done = mark(event_type, *words, **how)
            self.patch(self.target, "put", slow_from_now_on)
            return done

        self.patch(self.target, "put", slow_from_now_on)
        running = Deferred.fromCoroutine(move.run())
        self.clock.pump([0.5] * 40)
        self.assertEqual(self.depth(self.source), Depth(reserved=1))
        self.target.answer()
        self.clock.pump([0.5] * 4)
        self.successResultOf(running)
        self.assertEqual(move.count, 1)

    def test_stopping_settles_what_is_in_hand(self):
        self.put(b"1")
        self.result(self.source.reserve(["mail"]))
        self.put(b"2")
        move = self.move()
        running = Deferred.fromCoroutine(move.run())
        self.assertNoResult(running)
        move.stop()
        self.assertIn("start it again", str(self.failureResultOf(running, MoveFailed).value))
        self.assertEqual((self.bodies(self.target), move.count), ([b"2"], 1))
        self.assertEqual(self.result(self.target.types()), ["mail"])
