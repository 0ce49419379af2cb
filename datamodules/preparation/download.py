"""Downloading a published file: resumed by HTTP ranges, retried, and checked before it gets its name."""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from datamodules.errors import DataError
from datamodules.preparation.progress import Advance, advancing, gigabytes, say
from datamodules.preparation.releases import Archive
from datamodules.preparation.space import require_space

ATTEMPTS = 8
"""Connections in a row that may fail without bringing a byte."""

TIMEOUT = 60.0
"""Seconds without a byte after which a connection is given up."""

_CHUNK = 2**20
_LONGEST_WAIT = 60.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP states that may be other the next time."""


class ConnectionFailedError(DataError):
    """A server cannot be reached, does not have the file, or stops sending it."""


def download(archive: Archive, server: str, folder: Path, wait: Callable[[float], object] = time.sleep) -> Path:
    """Download an archive into a folder, or finish a download that was interrupted.

    What has arrived is kept in `NAME.part`, after an interruption or failure of any kind, and continued from there;
    where the server cannot do that, the download starts anew. Only a file of the published size and checksum becomes
    `NAME`. One that differs is kept aside as `NAME.wrong`.

    Args:
        archive: What is published.
        server: URL that `archive.path` is below, without a final slash.
        folder: Where to; it is made.
        wait: Waits so many seconds between attempts: 1, 2, 4, ... 60.

    Returns:
        The file.

    Raises:
        ConnectionFailedError: the server cannot be reached, does not have the file, or stops sending it.
        DataError: the server is no address, the disk has no room for the file, or what came is not what is published.
    """
    url = f"{server}/{archive.path}"
    target = folder / archive.name
    if target.is_file():
        return target
    _require_address(server)
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{archive.name}.part")
    have = part.stat().st_size if part.exists() else 0
    if archive.size is not None:
        require_space(folder, max(0, archive.size - have), f"the rest of {archive.name}" if have else archive.name)
    say(f"{url} -> {target}" + (f", continued after {gigabytes(have)}" if have else ""))
    with advancing(archive.name, archive.size or 0, have) as advance:
        _fetch(url, part, archive, advance, wait)
    if found := differs(part, archive):
        wrong = target.with_name(f"{archive.name}.wrong")
        part.replace(wrong)
        raise DataError(
            f"{url} gave a file that {found}; it is kept as {wrong}. Delete it and repeat the command, or take the "
            "file from elsewhere with --mirror or --archives"
        )
    part.replace(target)
    return target


def _require_address(server: str) -> None:
    """Refuse what no attempt will ever reach."""
    try:
        parts = urllib.parse.urlsplit(server)
        # Reading the port raises ValueError where it is none.
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise DataError(f"{server!r} is not the address of a server: set --mirror to http://HOST or https://HOST")


def differs(path: Path, archive: Archive) -> str | None:
    """Say in what a file differs from what is published, or None if it does not (as far as that is known)."""
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        return f"has {size:,} bytes instead of {archive.size:,}"
    if archive.md5 is None:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file, advancing(f"checking {archive.name}", size) as advance:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return None if digest.hexdigest() == archive.md5 else f"has the MD5 {digest.hexdigest()} instead of {archive.md5}"


def _fetch(url: str, part: Path, archive: Archive, advance: Advance, wait: Callable[[float], object]) -> None:
    """Bring `part` to its full length over as many connections as it takes."""
    failures = 0
    most = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        most = max(most, have)
        if archive.size is not None and have >= archive.size:
            return  # where it is too long already, the check will say so
        try:
            if _receive(url, part, have, archive.size, advance):
                return
            error: Exception | None = None  # the connection ended early, without saying why
        except urllib.error.HTTPError as reply:
            if reply.code not in _PASSING:
                raise ConnectionFailedError(
                    f"{url} cannot be downloaded: the server says {reply.code} {reply.reason}"
                ) from reply
            error = reply
        except (OSError, http.client.HTTPException) as failure:
            error = failure
        # A server that always begins anew may go on for ever: only more than ever before is progress.
        received = (part.stat().st_size if part.exists() else 0) > most
        failures = 1 if received else failures + 1
        reason = "the connection ended early" if error is None else str(error) or type(error).__name__
        if failures >= ATTEMPTS:
            raise ConnectionFailedError(f"{url} cannot be downloaded ({reason})") from error
        seconds = min(_LONGEST_WAIT, 2.0 ** (failures - 1))
        say(f"{archive.name}: {reason}; trying again in {seconds:.0f} s (failure {failures} of {ATTEMPTS} in a row)")
        wait(seconds)


def _receive(url: str, part: Path, have: int, size: int | None, advance: Advance) -> bool:
    """Receive what one connection brings; tell whether that was all of it.

    Raises:
        DataError: The server announces a file of another size.
        OSError: No connection, or a broken one; what came before is in `part`.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": "taco-lab"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        reply = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        # Nothing lies beyond what is here: either it is whole, or it is of another file. The check tells.
        if error.code == 416 and have and size is None:
            return True
        raise
    with reply:
        start, total = _extent(reply, have)
        if size is not None and total is not None and total != size:
            raise DataError(f"{url} has {total:,} bytes instead of the published {size:,}: it is another file")
        if start != have:
            advance(-have)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while chunk := reply.read1(_CHUNK):
                file.write(chunk)
                advance(len(chunk))
            end = file.tell()
    # A server that does not tell how long the file is cannot be told from one that breaks off.
    full = size if total is None else total
    return full is None or end >= full


def _extent(reply: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where the reply begins in the file, and how long the file is if the server tells."""
    if reply.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have:
            raise OSError(f"the server answered the range with {reply.headers.get('Content-Range')!r}")
        return have, None if found[2] == "*" else int(found[2])
    length = reply.headers.get("Content-Length")
    return 0, int(length) if length is not None else None
