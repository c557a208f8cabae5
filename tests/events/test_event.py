import json

from twisted.trial.unittest import SynchronousTestCase

from evserve.events import Event, error_record


class ErrorRecordTests(SynchronousTestCase):
    def test_a_record_names_the_event_and_the_reason(self):
        event = Event("17", "mail.sent", b"body", attempts=5)
        self.assertEqual(
            json.loads(error_record(event, "ValueError: é", 12.34567)),
            {
                "id": "17",
                "type": "mail.sent",
                "attempts": 5,
                "reason": "ValueError: é",
                "at": 12.346,
            },
        )

    def test_a_record_of_a_long_reason_is_still_a_small_event(self):
        record = error_record(Event("17", "mail", b""), "\U0001f600" * 100_000, 0)
        self.assertLess(len(record), 65_536)
