"""The fast channel answers as twisted.web's; each difference is named, with its reason."""

from attrs import asdict
from twisted.trial.unittest import SynchronousTestCase

from tests.web.conversations import GROUPS, NEXT, REFUSED, SMUGGLING, WAITS, get
from tests.web.differences import DIFFERENCES
from tests.web.replay import replay, steps_of


LARGE = 30_000  # bytes; longer conversations are not repeated one byte at a time


def changes(old, new):
    """Return what differs between two outcomes, by field."""
    old, new = asdict(old), asdict(new)
    return {field: [old[field], new[field]] for field in old if old[field] != new[field]}


def without_next(conversation):
    """Return the steps without the request at their end that shows where the one before ends."""
    return [
        step.removesuffix(NEXT) if isinstance(step, bytes) else step
        for step in steps_of(conversation)
    ]


def lines_of(found):
    return "\n" + "\n".join(f"{name}: {what}" for name, what in found.items())


class DifferenceTests(SynchronousTestCase):
    def compare(self, group):
        found = {}
        for name, conversation in GROUPS[group].items():
            stock = replay(self, "stock", steps_of(conversation))
            fast = replay(self, "fast", steps_of(conversation))
            expected = DIFFERENCES.get(name)
            if expected is None and stock != fast:
                found[name] = f"stock: {stock}; fast: {fast}; {changes(stock, fast)}"[:2000]
            elif expected is not None and stock == fast:
                found[name] = "this differs no longer"
            elif expected is not None and str(fast) != expected:
                found[name] = f"stock: {stock}; fast: {fast}; expected: {expected}"
        self.assertEqual(lines_of(found), lines_of({}))

    def test_each_conversation_has_a_name_of_its_own(self):
        names = [name for group in GROUPS.values() for name in group]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(set(DIFFERENCES) - set(names), set())

    def test_well_formed_requests(self):
        self.compare("well-formed")

    def test_answers(self):
        self.compare("answers")

    def test_request_lines(self):
        self.compare("request lines")

    def test_headers(self):
        self.compare("headers")

    def test_connections(self):
        self.compare("connections")

    def test_expectations(self):
        self.compare("expect")

    def test_files_and_encodings(self):
        self.compare("files")

    def test_times(self):
        self.compare("times")

    def test_smuggling(self):
        self.compare("smuggling")


class SplitTests(SynchronousTestCase):
    def test_one_byte_at_a_time_comes_to_the_same(self):
        found = {}
        for name, conversation in [each for group in GROUPS.values() for each in group.items()]:
            steps = [*steps_of(conversation)]
            if sum(len(step) for step in steps if isinstance(step, bytes)) > LARGE:
                continue
            whole = replay(self, "fast", steps)
            bytewise = replay(self, "fast", steps_of(conversation, bytewise=True))
            different = changes(whole, bytewise)
            different.pop("trace", None)
            if different or bytewise.state != whole.state:
                found[name] = f"{whole}; in bytes: {bytewise}; {different}"[:2000]
        self.assertEqual(lines_of(found), lines_of({}))


class IsolationTests(SynchronousTestCase):
    def test_nothing_that_a_client_sends_changes_what_another_gets(self):
        plain = replay(self, "fast", [get()])
        for name, conversation in [each for group in GROUPS.values() for each in group.items()]:
            replay(self, "fast", without_next(conversation))
            self.assertEqual(replay(self, "fast", [get()]), plain, name)


class SmugglingTests(SynchronousTestCase):
    """Where a request ends is what RFC 9112 says, or the request is refused."""

    def test_no_message_is_framed_otherwise_than_the_standard_says(self):
        wrong = {}
        for name, (conversation, verdict) in SMUGGLING.items():
            allowed = verdict if isinstance(verdict, tuple) else (verdict,)
            outcome = replay(self, "fast", [conversation])
            if outcome.requests:
                verdict_here = outcome.requests[0]["body"]
            else:
                verdict_here = WAITS if outcome.state == "open" else REFUSED
            if verdict_here not in allowed:
                wrong[name] = f"{verdict_here} is not in {allowed}"
            elif outcome.requests and not self.ends_well(outcome):
                wrong[name] = f"what follows is taken for {outcome.requests[1:]}"
        self.assertEqual(lines_of(wrong), lines_of({}))

    def ends_well(self, outcome):
        """Return whether the next request was seen as it is, or not at all, the end being near."""
        uris = [request["uri"] for request in outcome.requests]
        if outcome.requests[0]["clientproto"] == b"HTTP/1.0":
            return uris == [b"/a"] and outcome.state == "closed"
        return uris == [b"/a", b"/next"] and outcome.state == "open"
