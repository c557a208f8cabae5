"""Small files of `twisted.web.static.File`, answered without its detours.

Twisted makes a `File` for each part of the path, asks the system for the state of each file seven
times, and reads it as a producer. For a regular file of at most SMALL bytes that is reached in the
ordinary way it is opened, read and sent here. Whatever else there may be (folders, ranges, hidden
files, other extensions, errors) is Twisted's, which then begins from the start.
"""

import os
from contextlib import suppress
from functools import lru_cache
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.internet.abstract import FileDescriptor
from twisted.python.compat import networkString
from twisted.web.http import CACHED, OK, datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.static import File


if TYPE_CHECKING:
    from evserve.web.request import FastRequest


SMALL = FileDescriptor.bufferSize
"""Bytes: 64 KiB, the pieces in which Twisted reads a file. So the loop and the memory of a
connection see no more of a small file than of a piece of a large one."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a FIFO has to wait for nothing

# What File and its users set in a File, and `putChild` in a child. One that has more, such as a
# method of its own, is Twisted's business.
_ATTRIBUTES = frozenset(
    [
        "_statinfo",
        "alwaysCreate",
        "childNotFound",
        "children",
        "contentEncodings",
        "contentTypes",
        "defaultType",
        "encoding",
        "forbidden",
        "ignoredExts",
        "indexNames",
        "path",
        "processors",
        "registry",
        "server",
        "type",
    ]
)

_Found: TypeAlias = tuple[str, os.stat_result, bytes]  # a file's name, state and content

_date = lru_cache(1024)(datetimeToString)


@lru_cache(1024)
def _value(text: str) -> bytes:
    """Return a value as `setHeader` cleans it."""
    headers = Headers()
    headers.setRawHeaders(b"x", [networkString(text)])
    ((_, (value,)),) = headers.getAllRawHeaders()
    return value


def find_resource(request: "FastRequest", resource: Any) -> Any:
    """Return the resource of a request, as `getChildForRequest` does; None if a file was sent.

    resource: the root of the site.
    """
    may_be_file = request.method in (b"GET", b"HEAD")
    while True:
        postpath = request.postpath  # which `getChild` may have replaced
        if (
            may_be_file
            and type(resource) is File
            and not (postpath and postpath[0] in resource.children)
        ):
            if send_small_file(request, resource):
                return None
            may_be_file = False  # what `getChild` makes of it is no other file
        if not postpath or resource.isLeaf:
            return resource
        name = postpath.pop(0)
        request.prepath.append(name)
        resource = resource.getChildWithDefault(name, request)


def send_small_file(request: "FastRequest", resource: File) -> bool:
    """Answer a GET or HEAD with the file that the rest of the path names below `resource`.

    Return False, having changed nothing, for what is not plainly a small file.
    """
    if not vars(resource).keys() <= _ATTRIBUTES or type(resource.path) is not str:
        return False
    if request.requestHeaders.hasHeader(b"Range"):
        return False
    try:
        found = _find(resource, request.postpath)
    except (OSError, ValueError):  # the latter for names that are not UTF-8, or contain NUL
        return False
    if found is None:
        return False
    name, status, data = found
    if request.postpath:
        kind, encoding = _type_and_encoding(File, name, resource.defaultType)
        request.prepath += request.postpath
        request.postpath.clear()
    else:
        if resource.type is None:
            resource.type, resource.encoding = _type_and_encoding(
                resource, name, resource.defaultType
            )
        kind, encoding = resource.type, resource.encoding
    _send(request, status, data, kind, encoding)
    return True


def _find(resource: File, names: list[bytes]) -> _Found | None:
    """Open what `names` names below a folder, or the file itself if there are none.

    None: it is not a small file, or Twisted might find another. Raises OSError, ValueError.
    """
    path = resource.path
    if not names:
        return _read(path, path.rpartition("/")[2])
    below = b"/".join(names).decode()
    # No name may be hidden, `.` or `..`; only the last may be empty; none has a slash of its own.
    if below.startswith((".", "/")) or "/." in below or "//" in below:
        return None
    if below.count("/") >= len(names):
        return None
    processors = resource.processors
    if processors and any(_split(each)[1] in processors for each in below.split("/")):
        return None
    path = f"{path}/{below}"
    if names[-1]:
        return _read(path, below.rpartition("/")[2])
    for name in resource.indexNames:
        if "/" in name or _split(name)[1] in processors:
            return None
        with suppress(FileNotFoundError):
            return _read(f"{path}{name}", name)
    return None


def _read(path: str, name: str) -> _Found | None:
    """Read a small file; None if it is none, or changes meanwhile. Raises OSError, ValueError."""
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        size = status.st_size
        if size > SMALL or not S_ISREG(status.st_mode):
            return None
        data = os.read(descriptor, size + 1)
    finally:
        os.close(descriptor)
    return (name, status, data) if len(data) == size else None


def _type_and_encoding(types: Any, name: str, default: str) -> tuple[str, str | None]:
    """As `twisted.web.static.getTypeAndEncoding`; types: a File, or its class."""
    stem, extension = _split(name)
    extension = extension.lower()
    encoding = types.contentEncodings.get(extension)
    if extension in types.contentEncodings:
        extension = _split(stem)[1].lower()
    return types.contentTypes.get(extension, default), encoding


def _split(name: str) -> tuple[str, str]:
    """As `os.path.splitext`, of a name without slashes."""
    stem, _, extension = name.rpartition(".")
    return (stem, f".{extension}") if stem.strip(".") else (name, "")


def _send(
    request: Any, status: os.stat_result, data: bytes, kind: str, encoding: str | None
) -> None:
    """Answer as File.render does, down to the order of the header."""
    fields = request.responseHeaders._rawHeaders  # noqa: SLF001 - the methods check each value
    is_get = request.method == b"GET"
    fields[b"Accept-Ranges"] = [b"bytes"]
    if request.setLastModified(status.st_mtime) is CACHED:
        data = b""
        if is_get:
            fields[b"Content-Length"] = [b"0"]
    else:
        fields[b"Content-Length"] = [b"%d" % len(data)]
        if kind:
            fields[b"Content-Type"] = [_value(kind)]
        if encoding:
            fields[b"Content-Encoding"] = [_value(encoding)]
        if is_get:
            request.setResponseCode(OK)
    if kind and b"Last-Modified" not in fields:
        # What `write` would do last, and FastRequest's does not.
        fields[b"Last-Modified"] = [_date(request.lastModified)]
        request.lastModified = None
    request.write(data if is_get else b"")
    request.finish()
