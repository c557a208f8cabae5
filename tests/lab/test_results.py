"""Results, and the JSON that holds them."""

import json

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from evserve.lab.results import InvalidResultError, Outcome, as_json, from_json
from tests.lab.example_results import CLAIM, breaks, model, result


class JsonTests(SynchronousTestCase):
    def setUp(self):
        models = [model(), breaks("select_loop", "scanning", 3_000)]
        self.result = result(models, [CLAIM], notes=("a note",), partial="it was stopped")

    def test_what_was_written_is_read_back(self):
        self.assertEqual(from_json(as_json(self.result)), self.result)

    def test_outcomes_are_plain_words(self):
        value = json.loads(as_json(self.result))
        self.assertEqual(value["version"], 1)
        self.assertEqual(value["models"][1]["cells"][-2]["outcome"], "broke")
        self.assertEqual(value["claims"][0]["verdict"], "holds")

    def refused(self, text, words):
        problem = self.assertRaises(InvalidResultError, from_json, text)
        self.assertIn(words, str(problem))
        self.assertNotIn("\n", str(problem))

    def changed(self, **values):
        return json.dumps({**json.loads(as_json(self.result)), **values})

    def test_text_that_is_not_a_result_is_refused_in_one_line(self):
        self.refused("{", "not JSON")
        self.refused("[" * 100_000, "not JSON")
        self.refused("[]", "not a result of the lab")
        self.refused('{"version": 1}', "not a result of the lab")
        self.refused(self.changed(version=2), "version 2; this evserve reads 1")

    def test_a_wrong_value_is_named(self):
        self.refused(self.changed(seconds="5"), "seconds: expected float, not '5'")
        self.refused(self.changed(seconds=True), "seconds: expected float, not 'True'")
        self.refused(self.changed(models={}), "models: expected list, not '{}'")
        self.refused(self.changed(models=[5]), "models[0]: expected modelresult, not '5'")
        self.refused(self.changed(machine={}), "machine has no 'cpu'")
        value = json.loads(as_json(self.result))
        value["models"][0]["cells"][0]["outcome"] = "fine"
        self.refused(json.dumps(value), "models[0].cells[0].outcome: expected outcome, not 'fine'")
        del value["models"]
        self.refused(
            json.dumps({**value, "models": [], "claims": 5}), "claims: expected list, not '5'"
        )

    def test_whole_numbers_are_read_as_seconds(self):
        self.assertEqual(from_json(self.changed(seconds=5)).seconds, 5.0)


class ModelResultTests(SynchronousTestCase):
    def test_where_it_broke(self):
        self.assertIsNone(model().broke)
        self.assertEqual(breaks("x", "told", 100).broke.connections, 100)

    def test_what_cannot_run_counts_as_broken(self):
        cells = [evolve(each, outcome=Outcome.UNAVAILABLE) for each in model().cells]
        self.assertEqual(model(cells=cells).broke.connections, 1)

    def test_figures_are_counted(self):
        self.assertEqual(
            result([breaks("x", "told", 100), model()]).count(Outcome.MEASURED), 2 + 6
        )
