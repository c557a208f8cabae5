"""evserve, whose names are a test's: `own_names.py '{"a.example": ["127.0.0.1"]}' WORDS...`.

A name that is not there does not exist.
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

    socket.getaddrinfo = getaddrinfo  # before Twisted's resolver takes it

    from twisted.scripts.twistd import run

    sys.argv[1:1] = ["-n", "evserve"]
    run()


main()
