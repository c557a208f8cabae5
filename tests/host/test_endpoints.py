"""Endpoint strings: from options to Twisted endpoints."""

import errno
import fcntl
import os
import shutil
import socket
import tempfile
from pathlib import Path

from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase, TestCase

from evserve.host.endpoints import (
    EndpointReactor,
    add_defaults,
    endpoint_strings,
    parse_endpoint,
)
from evserve.host.options import with_listening_options


NOWHERE = r"empty interface (0.0.0.0 for all of them; \: for a colon in it)"


class Nine(usage.Options):
    default_port = 9000


class EndpointStringsTests(SynchronousTestCase):
    def strings(self, words, options=usage.Options):
        parsed = with_listening_options(options)()
        parsed.parseOptions(words.split())
        return endpoint_strings(parsed)

    def test_a_port_is_short_for_a_tcp_endpoint(self):
        self.assertEqual(self.strings("--port 0"), ["tcp:0"])

    def test_listen_may_be_repeated_and_adds_to_the_port(self):
        self.assertEqual(
            self.strings("--listen tcp:1 --listen unix:x --port 2"), ["tcp:2", "tcp:1", "unix:x"]
        )

    def test_the_default_port_is_used_if_none_is_given(self):
        self.assertEqual(self.strings("", Nine), ["tcp:9000"])
        self.assertEqual(self.strings("--listen unix:x", Nine), ["unix:x"])
        self.assertEqual(self.strings("--port 7", Nine), ["tcp:7"])

    def test_without_any_of_them_it_is_an_error(self):
        error = self.assertRaises(usage.UsageError, self.strings, "")
        self.assertEqual(
            str(error), "no port and no endpoint to listen on (give --port N or --listen ENDPOINT)"
        )

    def test_options_without_listening_options_use_the_default_port(self):
        self.assertEqual(endpoint_strings(Nine()), ["tcp:9000"])


class AddDefaultsTests(SynchronousTestCase):
    def make_folder(self):
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        return folder

    def completed(self, pairs, interface="127.0.0.1"):
        for written, expected in pairs.items():
            self.assertEqual(add_defaults(written, interface), expected)

    def test_loopback_and_a_long_backlog_are_the_defaults(self):
        pem = self.make_folder()
        rest = "interface=127.0.0.1:backlog=1024"
        self.completed(
            {
                "tcp:9000": f"tcp:9000:{rest}",
                "tcp:port=9000": f"tcp:port=9000:{rest}",
                "ssl:9000:privateKey=a.pem": f"ssl:9000:privateKey=a.pem:{rest}",
                f"tls:{pem}:port=9000": f"tls:{pem}:port=9000:{rest}",
                "haproxy:tcp:9000": f"haproxy:tcp:9000:{rest}",
                "tcp6:9000": r"tcp6:9000:interface=\:\:1:backlog=1024",
                "haproxy:tcp6:port=1": r"haproxy:tcp6:port=1:interface=\:\:1:backlog=1024",
            }
        )

    def test_named_and_positional_arguments_are_kept(self):
        pem = self.make_folder()
        for written in (
            "tcp:9000:interface=0.0.0.0:backlog=5",
            "tcp:9000:0.0.0.0:5",
            "ssl:9000:a.pem:a.pem:m:0.0.0.0:5",
            f"tls:{pem}:9000:5:\\:\\:",
        ):
            self.completed({written: written})
        self.completed({"tcp:1:0.0.0.0": "tcp:1:0.0.0.0:backlog=1024"})

    def test_an_ipv6_endpoint_takes_no_ipv4_interface(self):
        written = r"tcp6:1:5:\:\:"
        self.completed({written: written}, "192.0.2.1")
        self.completed({"tcp6:1": r"tcp6:1:interface=2001\:db8\:\:1:backlog=1024"}, "2001:db8::1")
        error = self.assertRaises(ValueError, add_defaults, "tcp6:1", "192.0.2.1")
        self.assertEqual(str(error), "192.0.2.1 is not an IPv6 address")

    def test_a_unix_socket_has_a_backlog_but_no_interface(self):
        self.completed({"unix:/run/x": "unix:/run/x:backlog=1024"})
        self.completed({"unix:address=x": "unix:address=x:backlog=1024"})

    def test_other_kinds_stay_as_they_are(self):
        for written in ("systemd:domain=INET:index=0", "onion:80", "", ":"):
            self.completed({written: written})

    def test_the_colons_of_an_ipv6_interface_are_quoted(self):
        self.completed({"tcp:0": "tcp:0:interface=\\:\\:1:backlog=1024"}, "::1")

    def test_a_quoted_colon_or_equals_sign_separates_nothing(self):
        self.completed({"unix:a\\:b\\=c:mode=600": "unix:a\\:b\\=c:mode=600:backlog=1024"})

    def test_a_port_out_of_range_is_refused_although_twisted_would_parse_it(self):
        for port in ("99999", "-1", "abc", ""):
            for written in (f"tcp:{port}:backlog=5", f"ssl:port={port}", f"haproxy:tcp:{port}:x"):
                error = self.assertRaises(ValueError, add_defaults, written, "::1")
                self.assertEqual(str(error), f"{port!r} is not a port number (0 to 65535)")

    def test_a_backslash_may_quote_a_backslash(self):
        self.completed({"unix:x\\\\": "unix:x\\\\:backlog=1024"})

    def test_a_folder_of_certificates_must_be_there(self):
        error = self.assertRaises(ValueError, add_defaults, "tls:nowhere", "::1")
        self.assertEqual(str(error), "no folder 'nowhere' with certificates")


class ParseEndpointTests(SynchronousTestCase):
    def parse(self, written, interface="127.0.0.1"):
        return parse_endpoint(MemoryReactorClock(), written, interface)

    def refusal(self, written):
        return str(self.assertRaises(usage.UsageError, self.parse, written))

    def test_it_listens_where_it_was_told(self):
        reactor = MemoryReactorClock()
        parse_endpoint(reactor, "tcp:7", "::1").listen(Factory())
        port, _, backlog, interface = reactor.tcpServers[0]
        self.assertEqual((port, backlog, interface), (7, 1024, "::1"))

    def test_an_endpoint_of_another_package_is_on_loopback_as_well(self):
        """Twisted's own and others' endpoints leave the interface empty for all of them."""
        reactor = MemoryReactorClock()
        wrapped = EndpointReactor(reactor, has_mode=False)
        TCP4ServerEndpoint(wrapped, 1).listen(Factory())
        TCP4ServerEndpoint(wrapped, 2, interface="0.0.0.0").listen(Factory())
        SSL4ServerEndpoint(wrapped, 3, None).listen(Factory())
        interfaces = [port[3] for port in reactor.tcpServers] + [reactor.sslServers[0][4]]
        self.assertEqual(interfaces, ["127.0.0.1", "0.0.0.0", "127.0.0.1"])

    def test_each_mistake_is_one_line(self):
        bad = self.mktemp()
        Path(bad).parent.mkdir(parents=True, exist_ok=True)
        Path(bad).write_text("no key")
        table = {
            "": "unknown kind (known: tcp, tcp6, ssl, tls, unix, systemd, haproxy)",
            "smoke:9000": "unknown kind (known: tcp, tcp6, ssl, tls, unix, systemd, haproxy)",
            "tcp": "missing 'port'",
            "tcp:xyz": "'xyz' is not a port number (0 to 65535)",
            "tcp:0:backlog=x": "'x' is not a number",
            "unix:x:mode=999": "'999' is not an octal number, such as 660",
            "unix:x\\": "trailing backslash",
            "\\": "trailing backslash",
            "unix:a\0b": "control characters",
            "tcp:0:": NOWHERE,
            "tcp:0:interface=::1": NOWHERE,
            "stdio:": "standard input accepts no connections",
            "haproxy:stdio:": "standard input accepts no connections",
            f"ssl:0:privateKey={bad}:sslmethod=foo": "'foo' is not a method of OpenSSL",
            "tcp:0:colour=red": "unknown argument 'colour'",
            "tcp:0:1:2:3": "too many arguments",
            "systemd:domain=INET:index=0": "systemd passed no sockets to this process",
            "systemd:domain=INET": "Specify exactly one of descriptor index or name",
            f"ssl:0:privateKey={bad}": "not a private key and its certificate (PEM)",
        }
        for written, cause in table.items():
            self.assertEqual(self.refusal(written), f"bad endpoint {written!r}: {cause}")

    def test_a_missing_key_file_is_named(self):
        reason = self.refusal("ssl:0:privateKey=nope.pem")
        self.assertIn(OSError(errno.ENOENT, "No such file or directory").strerror, reason)
        self.assertTrue(reason.endswith("nope.pem"), reason)


class UnixSocketTests(TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())  # short: the path of a socket has 107 bytes at most
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "s"

    async def listen(self, rest="", kind="unix"):
        from twisted.internet import reactor

        endpoint = parse_endpoint(reactor, f"{kind}:{self.path}{rest}", "127.0.0.1")
        factory = Factory()
        port = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        self.assertEqual(factory.numPorts, 1)
        return port

    def mode(self):
        return self.path.stat().st_mode & 0o777

    def abandon(self):
        """Leave a socket behind, as a killed server does."""
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(self.path))
            killed.listen()

    async def test_its_mode_follows_the_umask_unless_it_is_named(self):
        self.addCleanup(os.umask, os.umask(0o027))
        port = await self.listen()
        self.assertEqual(self.mode(), 0o750)
        await port.stopListening()
        port = await self.listen(kind="haproxy:unix")
        self.assertEqual(self.mode(), 0o750)
        await port.stopListening()
        await self.listen(":mode=666")
        self.assertEqual(self.mode(), 0o666)

    async def test_one_that_a_killed_server_left_behind_is_replaced(self):
        self.abandon()
        os.symlink("1", f"{self.path}.lock")  # noqa: PTH211 - Twisted's lock of a process 1
        await self.listen()
        self.assertTrue(self.path.is_socket())

    async def refused(self):
        error = await self.assertFailure(self.deferred(), CannotListenError)
        self.assertEqual(error.socketError.errno, errno.EADDRINUSE)

    def deferred(self):
        from twisted.internet import reactor

        return parse_endpoint(reactor, f"unix:{self.path}", "127.0.0.1").listen(Factory())

    async def test_one_that_another_server_listens_on_stays(self):
        await self.listen()
        await self.refused()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))

    async def test_a_file_that_is_no_socket_stays(self):
        self.path.write_text("mine")
        await self.refused()
        self.assertEqual(self.path.read_text(), "mine")

    async def test_a_folder_in_which_another_process_replaces_one_now_is_left_to_it(self):
        self.abandon()
        folder = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX)
        await self.refused()

    async def test_no_other_process_can_take_one_that_is_being_made_for_abandoned(self):
        def listen(address, factory, **kwargs):
            with self.assertRaises(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)

        folder = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        reactor = type("Reactor", (), {"listenUNIX": staticmethod(listen)})()
        EndpointReactor(reactor, has_mode=False).listenUNIX(str(self.path), Factory())

    async def test_a_folder_that_is_not_there_is_an_error_about_the_socket(self):
        self.path = self.folder / "none" / "s"
        error = await self.assertFailure(self.deferred(), CannotListenError)
        self.assertEqual(error.socketError.errno, errno.ENOENT)
