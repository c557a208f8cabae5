"""evserve with DNS names of the test: `fake_dns.py '{"a.example": ["127.0.0.1"]}' WORDS...`.

No other names exist.
"""

import json
import socket
import sys


def main():
    names = json.loads(sys.argv.pop(1))

    def getaddrinfo(host, port, *_):
        found = []
        for address in names.get(host.rstrip("."), ()):
            if ":" in address:
                found.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)))
            else:
                found.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    socket.getaddrinfo = getaddrinfo  # before Twisted's resolver keeps a reference

    from twisted.scripts.twistd import run

    sys.argv[1:1] = ["-n", "evserve"]
    run()


main()
