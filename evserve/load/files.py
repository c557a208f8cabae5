"""Room for the sockets: every connection is an open file."""

import resource


_SPARE = 64  # standard streams, the reactor's own, modules being imported


class TooManyFilesError(ValueError):
    """The system's hard limit forbids so many connections."""


def make_room(connections: int) -> None:
    """Raise the soft limit of open files if it is too low; raises TooManyFilesError."""
    files = connections + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= files:
        return
    if hard != resource.RLIM_INFINITY and hard < files:
        raise TooManyFilesError(
            f"{connections} connections need {files} open files, but 'ulimit -Hn' allows {hard}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
