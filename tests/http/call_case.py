"""A call to a server that the test plays."""

from twisted.trial.unittest import SynchronousTestCase

from tests.http.gather import fetch
from tests.http.network import HOST, Network


class Case(SynchronousTestCase):
    def setUp(self):
        self.network = Network()

    def begin(self, url=HOST, client=None, on_piece=None, settings=None, **options):
        self.client = client or self.network.client(**(settings or {}))
        call = fetch(self.client, url, on_piece, **options)
        return call, self.network.accept()
