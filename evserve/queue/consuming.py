"""The commands that reserve events and say what became of them."""

from typing import Final

from attrs import define

from evserve.queue.channel import INTERNAL_ERROR, Channel
from evserve.queue.ledger import Change
from evserve.queue.line import Answer
from evserve.queue.model import Event, Refusal
from evserve.queue.store import StoreError
from evserve.queue.wire import Flow, Then


PLAIN: Final = b"RESERVED %d %d\r\n%b\r\n"


@define(eq=False, repr=False)
class Consuming(Channel):
    """Verbs of consumers."""

    def reserve(self) -> Then:
        """Wait for an event."""
        return self._reserve("reserve", None)

    def reserve_with_timeout(self, timeout: int) -> Then:
        """Wait for an event, but not for ever."""
        return self._reserve("reserve-with-timeout", timeout)

    def reserve_from(self, timeout: int) -> Then:
        """Wait for an event; the reply names its tube."""
        return self._reserve("reserve-with-timeout", timeout, with_tube=True)

    def reserve_batch(self, most: int, timeout: int) -> Then:
        """Wait for an event, and take others that are ready with it."""
        if not most:
            return self.reply(b"BAD_FORMAT\r\n")
        return self._reserve("reserve-with-timeout", timeout, with_tube=True, most=most)

    def _reserve(
        self, verb: str, timeout: int | None, *, with_tube: bool = False, most: int = 0
    ) -> Then:
        if self.outstanding or (self.draining and not self.client.reserved):
            return Flow.AGAIN
        self.statistics.counts[verb] += 1
        if self.draining:
            # What it has in hand is settled behind this command, and must not wait for it.
            return self.reply(Refusal.TIMED_OUT.value)
        self.with_tube, self.in_batch = with_tube, most > 0
        engine = self.engine
        answer = engine.core.line.reserve(self.client, engine.now(), timeout, most or 1)
        if answer is None:
            self.busy = True
            return Flow.STOP
        return self.reply(self._format(answer))

    def answer(self, answer: Answer) -> None:
        """See Party."""
        self.say(self._format(answer))

    def _format(self, answer: Answer) -> bytes:
        if isinstance(answer, Refusal):
            return answer.value
        try:
            texts = [self._format_event(event) for event in answer]
        except StoreError:
            return INTERNAL_ERROR
        if self.in_batch:
            texts.insert(0, b"RESERVED_BATCH %d\r\n" % len(texts))
        return b"".join(texts)

    def _format_event(self, event: Event) -> bytes:
        body = self.engine.body(event)
        if self.with_tube:
            tube = event.tube.name.encode()
            return b"RESERVED %d %d %b\r\n%b\r\n" % (event.id, len(body), tube, body)
        return b"RESERVED %d %d\r\n%b\r\n" % (event.id, len(body), body)

    def reserve_job(self, event_id: int) -> Then:
        """Reserve one event by its id."""
        if self.outstanding or (self.draining and not self.client.reserved):
            return Flow.AGAIN
        self.with_tube = self.in_batch = False
        engine = self.engine
        answer = engine.core.line.reserve_id(self.client, event_id, engine.now())
        return self.reply(self._format(answer))

    def delete(self, event_id: int) -> Then:
        """Remove an event."""
        change = self.engine.core.ledger.delete(self.client, event_id)
        return self._change("delete", change, b"DELETED\r\n")

    def release(self, event_id: int, pri: int, delay: int) -> Then:
        """Give an event back."""
        engine = self.engine
        change = engine.core.ledger.release(
            self.client, event_id, engine.now(), pri=pri, delay=delay
        )
        return self._change("release", change, b"RELEASED\r\n")

    def bury(self, event_id: int, pri: int) -> Then:
        """Put an event aside."""
        engine = self.engine
        change = engine.core.ledger.bury(self.client, event_id, engine.now(), pri=pri)
        return self._change("bury", change, b"BURIED\r\n")

    def touch(self, event_id: int) -> Then:
        """Start an event's time to run again."""
        engine = self.engine
        change = engine.core.ledger.touch(self.client, event_id, engine.now())
        return self._change("touch", change, b"TOUCHED\r\n")

    def kick_job(self, event_id: int) -> Then:
        """Make one buried or delayed event ready."""
        change = self.engine.core.ledger.kick_id(event_id)
        return self._change(None, change, b"KICKED\r\n")

    def _change(self, verb: str | None, change: Change | Refusal, text: bytes) -> Then:
        if isinstance(change, Refusal) and self.outstanding:
            # What is missing may be on its way into the store, sent by this very connection.
            return Flow.AGAIN
        if verb is not None:
            self.statistics.counts[verb] += 1
        if isinstance(change, Refusal):
            return self.reply(change.value)
        return self.promise(text, change)

    def watch(self, tube: str) -> Then:
        """Reserve from `tube` too."""
        self.statistics.counts["watch"] += 1
        self.engine.core.book.watch(self.client, tube)
        return self.reply(b"WATCHING %d\r\n" % len(self.client.watch))

    def ignore(self, tube: str) -> Then:
        """Reserve no more from `tube`."""
        self.statistics.counts["ignore"] += 1
        if self.engine.core.book.ignore(self.client, tube):
            return self.reply(b"WATCHING %d\r\n" % len(self.client.watch))
        return self.reply(b"NOT_IGNORED\r\n")
