import io
import json

from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from evserve.events import Capability, Depth, State, Unsupported
from evserve.inspect.options import Options
from evserve.inspect.output import Output
from evserve.inspect.verbs import VERBS
from evserve.testing import MemoryQueue


class WithoutTruncate(MemoryQueue):
    """A queue whose server is a beanstalkd."""

    def truncate(self, event_type):
        raise Unsupported("the server does not know truncate")


class VerbTestCase(TestCase):
    def setUp(self):
        self.clock = Clock()
        self.queue = self.make_queue()

    def make_queue(self, *lacks):
        queue = MemoryQueue(self.clock)
        queue.capabilities |= Capability.SHARED
        return queue

    async def run_verb(self, *words):
        """Return what is shown, and why the verb failed."""
        options = Options()
        # The host lets options stand anywhere.
        words = sorted(words, key=lambda word: not word.startswith("--"))
        options.parseOptions(["--queue=q:", *words])
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        output = Output(stream, bool(options["json"]))
        if options["verb"] == "put":
            options["words"] = [options["words"][0], options["words"][1].encode()]
        failure = await VERBS[options["verb"]](self.queue, options, output)
        return stream.buffer.getvalue().decode(), failure

    async def check(self, line, *words):
        self.assertEqual(await self.run_verb(*words), (f"{line}\n", None))

    async def objects(self, *words):
        shown, failure = await self.run_verb("--json", *words)
        self.assertIsNone(failure)
        return [json.loads(line) for line in shown.splitlines()]

    async def bury(self, body=b"", event_type="mail", **how):
        event_id = await self.queue.put(event_type, body)
        event = await self.queue.reserve_event(event_id)
        await self.queue.bury(event, "no such image", **how)
        return event_id


class ListTests(VerbTestCase):
    async def test_types_are_counted(self):
        await self.bury()
        await self.queue.put("sms", b"", delay=60)
        await self.queue.put("sms", b"")
        await self.queue.pause("sms", 100)
        self.clock.advance(10)
        shown, _ = await self.run_verb("list")
        self.assertEqual(
            shown.splitlines(),
            [
                "type            ready  reserved  delayed  buried  next waits  paused for",
                "evserve.errors      1         0        0       0      10.0 s",
                "mail                0         0        0       1",
                "sms                 1         0        1       0      10.0 s     1.5 min",
                "total               2         0        1       1",
            ],
        )
        self.assertEqual(
            await self.objects("list", "sms"),
            [
                {
                    "type": "sms",
                    "ready": 1,
                    "reserved": 0,
                    "delayed": 1,
                    "buried": 0,
                    "age": 10,
                    "paused": 90,
                }
            ],
        )

    async def test_a_type_that_is_not_there_is_named_with_one_that_is(self):
        await self.queue.put("mail", b"")
        wanted = "there are no events of the type 'mial'; did you mean 'mail'?"
        for words in (["list", "mial"], ["kick", "mial"], ["peek", "mial"]):
            self.assertEqual(await self.run_verb(*words), ("", wanted))
        self.assertEqual(await self.run_verb("delete", "--type=mial"), ("", wanted))

    async def test_the_history_is_shown_the_last_first(self):
        await self.queue.put("mail", b"")
        self.clock.advance(5)
        event = await self.queue.reserve(["mail"])
        self.clock.advance(2)
        await self.queue.ack(event, result=b"sent\x1b", keep=1000)
        await self.bury(keep=1000)
        shown, _ = await self.run_verb("list", "--done")
        first, second = [line.split() for line in shown.splitlines()[1:]]
        self.assertEqual(
            first[:4] + first[-3:], ["2", "mail", "buried", "1", "no", "such", "image"]
        )
        self.assertEqual(second[:4], ["1", "mail", "done", "1"])
        self.assertEqual(second[-5:], ["5.0", "s", "2.0", "s", "sent\\x1b"])
        [done] = (await self.objects("list", "--done", "mail", "--limit=2"))[1:]
        self.assertEqual((done["waited"], done["took"], done["result"]), (5, 2, "sent\x1b"))
        self.assertEqual(await self.objects("list", "--done", "sms"), [])

    async def test_a_long_result_is_cut_in_a_table_only(self):
        await self.queue.put("mail", b"")
        await self.queue.ack(await self.queue.reserve(["mail"]), result=b"x" * 9999, keep=1000)
        shown, _ = await self.run_verb("list", "--done")
        self.assertLess(len(shown), 500)
        self.assertIn("xxx...", shown)
        [done] = await self.objects("list", "--done")
        self.assertEqual(len(done["result"]), 9999)


class PeekTests(VerbTestCase):
    async def test_everything_about_an_event_is_shown(self):
        await self.queue.put("mail", b'{"to": "me"}', ttr=7)
        self.clock.advance(3)
        shown, _ = await self.run_verb("peek", "mail")
        self.assertRegex(shown, r"\Aid +1\ntype +mail\nstate +ready\nage +3.0\n")
        self.assertTrue(shown.endswith('\nbytes     12\n\n{\n  "to": "me"\n}\n'), shown)
        [seen] = await self.objects("peek", "--id=1")
        self.assertEqual((seen["ttr"], seen["state"], seen["body"]), (7, "ready", '{"to": "me"}'))

    async def test_the_state_selects_the_event(self):
        buried = await self.bury()
        delayed = await self.queue.put("mail", b"", delay=5)
        for state, wanted in (("buried", buried), ("delayed", delayed)):
            [seen] = await self.objects("peek", "mail", f"--state={state}")
            self.assertEqual((seen["id"], seen["state"]), (wanted, state))
        self.assertEqual(
            await self.run_verb("peek", "mail"), ("", "there is no ready event of mail")
        )
        self.assertEqual(await self.run_verb("peek", "--id=99"), ("", "there is no event 99"))

    async def test_raw_is_the_body_and_nothing_else(self):
        await self.queue.put("mail", b"\x1b[31m\n\x00")
        self.assertEqual(await self.run_verb("peek", "mail", "--raw"), ("\x1b[31m\n\x00", None))


class KickTests(VerbTestCase):
    async def test_one_so_many_or_all_are_kicked(self):
        for _ in range(6):
            await self.bury()
        await self.check("mail: 1 buried event made ready", "kick", "mail")
        await self.check("mail: 2 buried events made ready", "kick", "mail", "2")
        await self.check("mail: 3 buried events made ready", "kick", "mail", "--all")
        await self.check("mail: no event is buried or delayed", "kick", "mail")
        self.assertEqual(await self.queue.depth("mail"), Depth(ready=6))

    async def test_it_says_when_they_were_delayed(self):
        await self.queue.put("mail", b"", delay=60)
        wanted = {"type": "mail", "kicked": 1, "state": "delayed"}
        self.assertEqual(await self.objects("kick", "mail"), [wanted])


class DeleteTests(VerbTestCase):
    async def test_events_are_deleted_by_their_ids(self):
        for _ in range(3):
            await self.queue.put("mail", b"")
        await self.queue.reserve_event("2")
        shown, failure = await self.run_verb("delete", "1", "2", "3")
        self.assertEqual(
            shown.splitlines(),
            [
                "event 1: deleted",
                "event 2: there is no such event, or a consumer has reserved it",
                "event 3: deleted",
            ],
        )
        self.assertEqual(failure, "1 event could not be deleted")

    async def test_a_type_is_emptied_but_for_what_is_reserved(self):
        for queue in (self.make_queue(), WithoutTruncate(self.clock)):
            self.queue = queue
            await self.bury()
            await self.queue.put("mail", b"", delay=5)
            await self.queue.put("mail", b"", priority=0)
            await self.queue.put("mail", b"")
            await self.queue.reserve(["mail"])
            await self.check("mail: 3 events deleted", "delete", "--type=mail", "--yes")
            self.assertEqual(await self.queue.depth("mail"), Depth(reserved=1))


class ReplayTests(VerbTestCase):
    async def handled(self, body):
        event = await self.queue.reserve_event(await self.queue.put("mail", body, priority=7))
        await self.queue.ack(event, keep=1000)
        return event.id

    async def test_an_event_is_put_again_by_its_id(self):
        event_id = await self.handled(b"again")
        await self.check(f"event {event_id} (mail): put again as event 2", "replay", event_id)
        again = await self.queue.reserve(["mail"])
        self.assertEqual((again.body, again.priority, again.attempts), (b"again", 7, 1))

    async def test_one_that_is_buried_is_replaced(self):
        buried = await self.bury(b"fixed", keep=1000)
        [replayed] = await self.objects("replay", buried)
        self.assertEqual(await self.queue.depth("mail"), Depth(ready=1))
        self.assertEqual((await self.queue.reserve(["mail"])).id, replayed["replayed_as"])

    async def test_one_that_is_in_the_queue_is_left_there(self):
        event_id = await self.bury(keep=1000)
        await self.queue.kick("mail", 1)
        await self.check(f"event {event_id} (mail): in the queue, ready", "replay", event_id)
        self.assertEqual(await self.queue.depth("mail"), Depth(ready=1))

    async def test_failed_ones_of_a_type_are_put_in_their_order(self):
        await self.handled(b"fine")
        for body in (b"1", b"2"):
            await self.bury(body, keep=1000)
        await self.bury(b"other", "sms", keep=1000)
        self.assertEqual(len(await self.objects("replay", "--type=mail", "--failed")), 2)
        bodies = [(await self.queue.reserve(["mail"])).body for _ in range(2)]
        self.assertEqual(bodies, [b"1", b"2"])
        self.assertEqual(await self.queue.depth("mail"), Depth(reserved=2))
        await self.check("nothing to replay", "replay", "--type=fax")

    async def test_a_limit_counts_what_is_replayed_and_not_what_is_looked_at(self):
        for body in (b"old", b"new"):
            await self.bury(body, keep=1000)
        await self.handled(b"fine")
        [replayed] = await self.objects("replay", "--type=mail", "--failed", "--limit=1")
        self.assertEqual((await self.queue.find(replayed["replayed_as"])).event.body, b"new")

    async def test_an_id_that_is_not_in_the_history_is_an_error(self):
        _, failure = await self.run_verb("replay", "7")
        self.assertEqual(failure, "event 7: not among the last 1,000 of the history")


class FlowTests(VerbTestCase):
    async def test_a_type_is_paused_and_resumed(self):
        await self.check("mail: paused for 60 seconds", "pause", "mail", "60")
        self.assertEqual((await self.queue.depth("mail")).paused, 60)
        await self.check("mail: not paused", "resume", "mail")
        self.assertEqual((await self.queue.depth("mail")).paused, 0)

    async def test_the_queue_is_drained(self):
        await self.check("the queue refuses puts now", "drain")
        self.assertEqual(await self.objects("drain", "--off"), [{"draining": False}])
        await self.check("event 1 (mail)", "put", "mail", "x", "--priority=0", "--ttr=9")
        stored = await self.queue.find("1")
        self.assertEqual((stored.event.body, stored.event.priority), (b"x", 0))
        self.assertIs(stored.state, State.READY)

    async def test_what_would_end_with_the_command_is_refused(self):
        self.queue.capabilities &= ~Capability.SHARED
        for words in (["pause", "mail", "5"], ["resume", "mail"], ["drain"]):
            _, failure = await self.run_verb(*words)
            self.assertIn("only one process at a time has this queue open", failure)
        await self.queue.put("mail", b"")
        self.assertEqual(await self.queue.depth("mail"), Depth(ready=1))


class ManyTypesTests(VerbTestCase):
    async def test_more_types_than_calls_at_once_are_listed(self):
        for number in range(250):
            await self.queue.put(f"type.{number}", b"")
        self.assertEqual(len(await self.objects("list")), 250)

    async def test_a_failing_call_is_the_error_of_the_queue(self):
        await self.queue.put("mail", b"")
        self.patch(MemoryQueue, "depth", lambda *_: fail(Unsupported("no depth")))
        with self.assertRaises(Unsupported):
            await self.run_verb("list")
