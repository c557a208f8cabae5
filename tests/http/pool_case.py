"""A client whose connections the test counts."""

from twisted.trial.unittest import SynchronousTestCase

from tests.http.gather import fetch
from tests.http.network import HOST, Network


class PoolCase(SynchronousTestCase):
    def setUp(self):
        self.network = Network()

    def fetches(self, client, count, host=HOST):
        return [fetch(client, f"{host}/{number}") for number in range(count)]
