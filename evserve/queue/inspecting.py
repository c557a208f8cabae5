"""The commands that look, and pause."""

from attrs import define

from evserve.queue.channel import INTERNAL_ERROR, Channel
from evserve.queue.model import Event, Refusal
from evserve.queue.statistics import event_stats, name_list, tube_stats
from evserve.queue.store import StoreError
from evserve.queue.wire import Flow, Then


NOT_FOUND = Refusal.NOT_FOUND.value


@define(eq=False, repr=False)
class Inspecting(Channel):
    """Verbs that show the queue; they wait until this connection's own changes are committed."""

    def _show(self, verb: str, text: bytes) -> Then:
        self.statistics.counts[verb] += 1
        return self.reply(text)

    def peek(self, event_id: int) -> Then:
        """Show an event."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("peek", self._found(self.engine.core.book.events.get(event_id)))

    def peek_ready(self) -> Then:
        """Show the next ready event of the tube in use."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("peek-ready", self._found(self.client.use.next_ready()))

    def peek_delayed(self) -> Then:
        """Show the delayed event whose delay ends next."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("peek-delayed", self._found(self.client.use.first_delayed()))

    def peek_buried(self) -> Then:
        """Show the event that was buried first."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("peek-buried", self._found(self.client.use.first_buried()))

    def _found(self, event: Event | None) -> bytes:
        if event is None:
            return NOT_FOUND
        try:
            body = self.engine.body(event)
        except StoreError:
            return INTERNAL_ERROR
        return b"FOUND %d %d\r\n%b\r\n" % (event.id, len(body), body)

    def stats(self) -> Then:
        """Show the server's statistics."""
        if self.outstanding:
            return Flow.AGAIN
        # Counted before it is shown, as clients expect.
        self.statistics.counts["stats"] += 1
        engine = self.engine
        return self.reply(self.statistics.server(engine.now(), draining=engine.draining))

    def stats_job(self, event_id: int) -> Then:
        """Show an event's statistics."""
        if self.outstanding:
            return Flow.AGAIN
        event = self.engine.core.book.events.get(event_id)
        text = NOT_FOUND if event is None else event_stats(event, self.engine.now())
        return self._show("stats-job", text)

    def stats_tube(self, tube: str) -> Then:
        """Show a tube's statistics."""
        if self.outstanding:
            return Flow.AGAIN
        found = self.engine.core.book.tubes.get(tube)
        text = NOT_FOUND if found is None else tube_stats(found, self.engine.now())
        return self._show("stats-tube", text)

    def list_tubes(self) -> Then:
        """Show the names of all tubes."""
        if self.outstanding:
            return Flow.AGAIN
        return self._show("list-tubes", name_list(self.engine.core.book.tubes))

    def list_tube_used(self) -> Then:
        """Show the tube in use."""
        return self._show("list-tube-used", b"USING %b\r\n" % self.client.use.name.encode())

    def list_tubes_watched(self) -> Then:
        """Show the watch list."""
        return self._show("list-tubes-watched", name_list(self.client.watch))

    def pause_tube(self, tube: str, seconds: int) -> Then:
        """Give nothing from `tube` for some time."""
        if self.outstanding:
            return Flow.AGAIN
        found = self.engine.core.book.tubes.get(tube)
        if found is None:
            return self._show("pause-tube", NOT_FOUND)
        self.engine.core.line.pause(found, seconds, self.engine.now())
        return self._show("pause-tube", b"PAUSED\r\n")

    def quit(self) -> Then:
        """Close the connection, behind what was asked before."""
        if self.outstanding:
            return Flow.AGAIN
        self.close()
        return Flow.STOP
