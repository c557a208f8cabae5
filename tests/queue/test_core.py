"""The core against a simple model under random commands, and cases these seldom reach."""

from attrs import astuple
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from evserve.events import State
from evserve.queue.core import MAX_DELAYED_PER_TICK, Change, Core, Duplicate
from evserve.queue.model import NO_DELIVERY, Client, Delivery, Refusal
from tests.queue.reference_model import Consumer, Item, Model


TUBES = st.sampled_from(["default", "a", "b"])
WHO = st.integers(0, 4)
PICK = st.integers(0, 30)
PRI = st.sampled_from([0, 1, 5, 2000])
DELAY = st.sampled_from([0, 0, 1, 4])
STATES = {"ready": State.READY, "delayed": State.DELAYED, "buried": State.BURIED}


class CoreMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.core, self.model, self.now = Core(), Model(), 1000.0
        self.clients: list[tuple[Client, Consumer]] = []
        self.staged: list[tuple[Change, Item, dict]] = []
        for _ in range(2):
            self.connect()

    def pair(self, who):
        return self.clients[who % len(self.clients)]

    def item(self, pick):
        ids = sorted(self.model.items)
        return self.model.items[ids[pick % len(ids)]] if ids else None

    def consumer_of(self, client):
        return next(consumer for each, consumer in self.clients if each is client)

    @rule()
    @precondition(lambda self: len(self.clients) < 5)
    def connect(self):
        self.clients.append((self.core.connect(), Consumer(len(self.clients))))

    @rule(who=WHO)
    @precondition(lambda self: len(self.clients) > 1)
    def disconnect(self, who):
        client, consumer = pair = self.pair(who)
        self.core.disconnect(client, self.now)
        consumer.open = False
        if consumer.wanted:
            self.model.queue.remove(consumer)
        for item in self.model.held(consumer):
            self.model.give_back(item)
        self.model.serve(self.now)
        self.check_answers()
        self.clients.remove(pair)

    @rule(who=WHO, tube=TUBES, what=st.sampled_from(["use", "watch", "ignore"]))
    def tubes(self, who, tube, what):
        client, consumer = self.pair(who)
        if consumer.wanted:
            return
        if what == "use":
            self.core.use(client, tube)
            consumer.use = tube
        elif what == "watch":
            self.core.watch(client, tube)
            consumer.watch = list(dict.fromkeys([*consumer.watch, tube]))
        elif self.core.ignore(client, tube):
            consumer.watch = [each for each in consumer.watch if each != tube]
        else:
            assert consumer.watch == [tube]

    @rule(
        who=WHO,
        pri=PRI,
        delay=DELAY,
        ttr=st.sampled_from([1, 3, 60]),
        key=st.sampled_from([None, None, "k", "l"]),
    )
    def put(self, who, pri, delay, ttr, key):
        client, consumer = self.pair(who)
        made = self.core.put(client.use, b"body", self.now, pri=pri, delay=delay, ttr=ttr, key=key)
        twins = [
            each
            for each in self.model.items.values()
            if key and each.key == key and each.tube == consumer.use
        ]
        if twins:
            assert made == Duplicate(twins[0].id, is_settled=twins[0].state != "staged")
            return
        [change] = made
        item = Item(change.event.id, consumer.use, pri, ttr, "staged", key=key)
        self.model.items[item.id] = item
        state = "delayed" if delay else "ready"
        self.staged.append((change, item, {"state": state, "due": self.now + delay}))

    def stage(self, change, item, allowed, **new):
        if not allowed:
            assert change is Refusal.NOT_FOUND
            return
        before = {"state": item.state, "owner": item.owner, "due": item.due}
        if item in self.model.buried:
            self.model.buried.remove(item)
        item.state = "staged"
        self.staged.append((change, item, {**new, "before": before}))

    @rule(who=WHO, pick=PICK)
    def delete(self, who, pick):
        client, consumer = self.pair(who)
        item = self.item(pick)
        if item is None:
            assert self.core.delete(client, 99) is Refusal.NOT_FOUND
            return
        allowed = item.state in STATES or (item.state == "reserved" and item.owner is consumer)
        self.stage(self.core.delete(client, item.id), item, allowed, state="gone")

    @rule(who=WHO, pick=PICK, pri=PRI, delay=DELAY)
    def release(self, who, pick, pri, delay):
        client, consumer = self.pair(who)
        if (item := self.item(pick)) is None:
            return
        change = self.core.release(client, item.id, self.now, pri=pri, delay=delay)
        mine = item.state == "reserved" and item.owner is consumer
        state = "delayed" if delay else "ready"
        self.stage(change, item, mine, state=state, pri=pri, due=self.now + delay, owner=None)

    @rule(who=WHO, pick=PICK, pri=PRI)
    def bury(self, who, pick, pri):
        client, consumer = self.pair(who)
        if (item := self.item(pick)) is None:
            return
        change = self.core.bury(client, item.id, self.now, pri=pri)
        mine = item.state == "reserved" and item.owner is consumer
        self.stage(change, item, mine, state="buried", pri=pri, owner=None)

    @rule(pick=PICK)
    def kick_job(self, pick):
        if (item := self.item(pick)) is None:
            return
        allowed = item.state in {"buried", "delayed"}
        self.stage(self.core.kick_job(item.id), item, allowed, state="ready")

    @rule(tube=TUBES, most=st.integers(1, 3), state=st.sampled_from(["buried", "delayed"]))
    def kick(self, tube, most, state):
        found = self.core.tubes.get(tube)
        if found is None:
            return
        if state == "buried":
            expected = [item for item in self.model.buried if item.tube == tube][:most]
        else:
            delayed = [item for item in self.model.in_state("delayed") if item.tube == tube]
            expected = sorted(delayed, key=lambda item: (item.due, item.id))[:most]
        changes = self.core.kick(found, STATES[state], most)
        assert [change.event.id for change in changes] == [item.id for item in expected]
        for change, item in zip(changes, expected, strict=True):
            self.stage(change, item, True, state="ready")

    @rule(tube=TUBES)
    def truncate(self, tube):
        found = self.core.tubes.get(tube)
        if found is None:
            return
        changes = self.core.delete_unreserved(list(found.arrivals))
        expected = [i for i in self.model.in_state("ready", "delayed", "buried") if i.tube == tube]
        assert {change.event.id for change in changes} == {item.id for item in expected}
        for change in changes:
            self.stage(change, self.model.items[change.event.id], True, state="gone")

    @rule(who=WHO, pick=PICK)
    def touch(self, who, pick):
        client, consumer = self.pair(who)
        if (item := self.item(pick)) is None:
            return
        change = self.core.touch(client, item.id, self.now)
        if item.state == "reserved" and item.owner is consumer:
            item.due = self.now + item.ttr
            self.core.apply(change, self.now)
        else:
            assert change is Refusal.NOT_FOUND

    @rule(who=WHO, timeout=st.sampled_from([0, 2, None]), wanted=st.sampled_from([1, 1, 3]))
    def reserve(self, who, timeout, wanted):
        client, consumer = self.pair(who)
        if consumer.wanted:
            return
        answer = self.core.reserve(client, self.now, timeout, wanted)
        assert plain(answer) == self.model.reserve(consumer, wanted, timeout, self.now)

    @rule(who=WHO, pick=PICK)
    def reserve_job(self, who, pick):
        client, consumer = self.pair(who)
        if (item := self.item(pick)) is None or consumer.wanted:
            return
        answer = self.core.reserve_job(client, item.id, self.now)
        if item.state not in STATES:
            assert answer is Refusal.NOT_FOUND
            return
        assert plain(answer) == [item.id]
        if item in self.model.buried:
            self.model.buried.remove(item)
        item.state, item.owner, item.due = "reserved", consumer, self.now + item.ttr
        item.reserves += 1

    @rule(who=WHO)
    def end_wait(self, who):
        client, consumer = self.pair(who)
        self.core.end_wait(client)
        if consumer.wanted:
            self.model.answer(consumer, "TIMED_OUT")
        self.check_answers()

    @rule(tube=TUBES, seconds=st.sampled_from([0, 1, 5]))
    def pause(self, tube, seconds):
        found = self.core.tubes.get(tube)
        if found is None:
            return
        self.core.pause(found, seconds, self.now)
        self.model.paused.pop(tube, None)
        if seconds:
            self.model.paused[tube] = self.now + seconds
        self.model.serve(self.now)
        self.check_answers()

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 3.5]))
    def wait(self, seconds):
        self.now += seconds
        self.core.tick(self.now)
        self.model.advance(self.now)
        self.check_answers()

    @rule()
    @precondition(lambda self: self.staged)
    def commit(self):
        change, item, new = self.staged.pop(0)
        self.core.apply(change, self.now)
        for name in ("pri", "due", "owner", "state"):
            if name in new:
                setattr(item, name, new[name])
        item.owner = None
        if item.state == "gone":
            del self.model.items[item.id]
        if item.state == "buried":
            self.model.buried.append(item)
        self.model.serve(self.now)
        self.check_answers()

    @rule()
    @precondition(lambda self: self.staged)
    def fail(self):
        change, item, new = self.staged.pop()
        self.core.revert(change, self.now)
        if "before" not in new:
            del self.model.items[item.id]
            return
        for name, value in new["before"].items():
            setattr(item, name, value)
        if item.state == "reserved" and not item.owner.open:
            self.model.give_back(item)
        if item.state == "buried":
            self.model.buried.insert(0, item)
        self.model.serve(self.now)
        self.check_answers()

    def check_answers(self):
        answers, self.core.answers = self.core.answers, []
        actual = [
            (self.consumer_of(client).number, plain(answer), wait.until)
            for client, answer, wait in answers
        ]
        expected = [
            (consumer.number, answer, consumer.until) for consumer, answer in self.model.answers
        ]
        self.model.answers = []
        assert sorted(actual, key=str) == sorted(expected, key=str)

    @invariant()
    def every_event_is_in_one_place(self):
        core, model = self.core, self.model
        assert core.event_count == len(model.items)
        assert core.body_bytes == core.resident_bytes == 4 * len(model.items)
        assert core.waiting == len(model.queue)
        for tube in core.tubes.values():
            items = [item for item in model.items.values() if item.tube == tube.name]
            by_state = {name: [i for i in items if i.state == name] for name in STATES}
            assert tube.ready == len(by_state["ready"])
            assert tube.urgent == sum(item.pri < 1024 for item in by_state["ready"])
            assert tube.delayed == len(by_state["delayed"])
            assert list(tube.buried) == [i.id for i in model.buried if i.tube == tube.name]
            assert tube.event_count + tube.pending == len(items)

    @invariant()
    def every_event_is_as_the_model_says(self):
        for item in self.model.items.values():
            event = self.core.events.get(item.id)
            if event is None or item.state == "staged":
                continue
            assert event.pri == item.pri
            assert event.state.name.lower() == item.state
            counts = (event.delivery.reserves, event.delivery.timeouts)
            assert counts == (item.reserves, item.timeouts)
            if item.state in {"reserved", "delayed"}:
                assert event.delivery.due == item.due

    @invariant()
    def the_shared_delivery_is_unchanged(self):
        assert astuple(NO_DELIVERY) == astuple(Delivery())


def plain(answer):
    if isinstance(answer, Refusal):
        return answer.name
    return answer if answer is None else [event.id for event in answer]


TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class CoreTests(SynchronousTestCase):
    def setUp(self):
        self.core = Core()
        self.client = self.core.connect()

    def put(self, count=1, **options):
        changes = [self.core.put(self.client.use, b"", 0.0, **options)[0] for _ in range(count)]
        for change in changes:
            self.core.apply(change, 0.0)
        return [change.event for change in changes]

    def delete(self, event):
        self.core.apply(self.core.delete(self.client, event.id), 0.0)

    def test_stale_entries_of_heaps_are_removed(self):
        tube = self.client.use
        for options in ({}, {"delay": 9}):
            events = self.put(300, **options)
            for event in events[1:]:
                self.delete(event)
            self.assertLess(self.ready_entries() + len(tube.delay_heap), 200)
            self.delete(events[0])
        self.put(1)
        self.assertLess(len(tube.arrivals), 100)

    def ready_entries(self):
        return sum(map(len, self.client.use.ready_ids.values()))

    def test_stale_entries_of_many_priorities_are_removed(self):
        events = [event for pri in range(300) for event in self.put(pri=pri)]
        for event in events[1:]:
            self.delete(event)
        tube = self.client.use
        self.assertLess(self.ready_entries(), 100)
        self.assertEqual(sorted(tube.priorities), sorted(tube.ready_ids))
        self.assertIs(tube.first_ready(), events[0])

    def test_an_event_that_was_ready_before_is_ready_once(self):
        [event] = self.put(pri=5, ttr=60)
        for pri in (7, 5, 5):
            self.core.reserve_job(self.client, event.id, 0.0)
            self.core.apply(self.core.release(self.client, event.id, 0.0, pri=pri, delay=0), 0.0)
        self.assertEqual(self.core.reserve(self.client, 0.0, 0, 9), [event])
        self.assertIs(self.core.reserve(self.client, 0.0, 0), Refusal.TIMED_OUT)
        self.assertEqual(self.client.use.ready, 0)

    def test_priorities_that_are_not_in_use_any_more_are_removed(self):
        for pri in range(300, 0, -1):
            self.put(pri=pri)
            self.core.reserve(self.client, 0.0)
        self.assertLess(len(self.client.use.ready_ids), 3)
        self.assertEqual(len(self.client.use.priorities), len(self.client.use.ready_ids))

    def test_the_event_whose_put_removes_stale_arrivals_is_truncated_too(self):
        for event in self.put(100):
            self.delete(event)
        events = self.put(2)
        self.assertLess(len(self.client.use.arrivals), 100)
        changes = self.core.delete_unreserved(list(self.client.use.arrivals))
        self.assertEqual([change.event for change in changes], events)

    def test_deadlines_of_deleted_reservations_are_removed(self):
        held = self.put(1, ttr=5)
        self.core.reserve(self.client, 0.0)
        for _ in range(300):
            self.put(1, ttr=50)
            [event] = self.core.reserve(self.client, 0.0)
            self.delete(event)
        self.assertLess(len(self.client.deadlines), 100)
        self.assertIs(self.client.soonest(), held[0])

    def test_deadlines_of_disconnected_clients_are_removed(self):
        for _ in range(300):
            self.put(1, ttr=1000)
            client = self.core.connect()
            [event] = self.core.reserve(client, 0.0)
            self.core.disconnect(client, 0.0)
            self.delete(event)
        self.assertLess(len(self.core.deadlines._heap), 100)

    def test_a_deadline_of_a_disconnected_client_has_no_effect(self):
        self.put(1, ttr=1)
        client = self.core.connect()
        self.core.reserve(client, 0.0)
        self.core.disconnect(client, 0.0)
        self.core.tick(2.0)
        self.assertIsNone(self.core.deadlines.next)
        self.assertEqual(self.core.timeouts, 0)

    def test_an_earlier_pause_leaves_a_longer_one_alone(self):
        tube = self.client.use
        self.core.pause(tube, 5, 0.0)
        self.core.pause(tube, 50, 0.0)
        self.core.tick(6.0)
        self.assertEqual(tube.pause, 50)
        self.core.tick(51.0)
        self.assertEqual(tube.pause, 0)

    def test_a_paused_tube_exists_until_its_pause_ends(self):
        self.core.pause(self.core.tube("empty"), 5, 0.0)
        self.core.use(self.client, "empty")
        self.core.use(self.client, "default")
        self.assertEqual(self.core.tubes["empty"].pause, 5)
        self.core.tick(5.0)
        self.assertNotIn("empty", self.core.tubes)
        self.core.pause(self.core.tube("empty"), 5, 6.0)
        self.core.pause(self.core.tube("empty"), 0, 6.0)
        self.assertNotIn("empty", self.core.tubes)

    def test_a_million_delays_of_one_second_do_not_end_in_one_tick(self):
        self.put(MAX_DELAYED_PER_TICK + 5, delay=1)
        self.core.tick(1.0)
        self.assertEqual(self.client.use.ready, MAX_DELAYED_PER_TICK)
        self.assertLessEqual(self.core.deadlines.next, 1.0)
        self.core.tick(1.0)
        self.assertEqual(self.client.use.delayed, 0)

    def test_a_failed_kick_of_a_buried_event_keeps_its_place(self):
        for event in self.put(2):
            self.core.reserve_job(self.client, event.id, 0.0)
            self.core.apply(self.core.bury(self.client, event.id, 0.0, pri=0), 0.0)
        first = self.client.use.first_buried()
        self.core.revert(self.core.kick_job(first.id), 0.0)
        self.assertIs(self.client.use.first_buried(), first)

    def test_an_empty_tube_has_no_next_event_and_no_oldest(self):
        self.assertEqual(self.client.use.first_ready(), None)
        self.assertEqual(self.client.use.oldest(), None)

    def test_a_wait_without_timeout_outlives_other_deadlines(self):
        self.put(1, ttr=5)
        [event] = self.core.reserve(self.client, 0.0)
        self.delete(event)
        self.core.reserve(self.client, 1.0)
        self.core.tick(9.0)
        self.assertIsNotNone(self.client.wait)
        self.assertEqual(self.core.answers, [])
