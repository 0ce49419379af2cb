"""Unpacking a zip file: each member whole or not at all, nothing outside the folder, nothing twice."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from datamodules.errors import DataError, first_of
from datamodules.preparation.progress import Advance, advancing, say
from datamodules.preparation.space import require_space

DRAFTS = ".unpacking"
"""Folder, within that of the files, where they are written before they get their names. Drafts beside the images
would be taken for images after a kill, and a folder such as train2014 may be a link to another disk."""

_CHUNK = 2**20


def extract(
    path: Path,
    root: Path,
    wanted: Callable[[str], bool],
    force: bool = False,
    advance: Advance | None = None,
) -> int:
    """Unpack the wanted members of a zip file into a folder, or finish an extraction that was interrupted.

    Members that are there with their size are left as they are: a file gets its name only when it is whole and its
    CRC is right.

    Args:
        path: Zip file.
        root: Folder to unpack into; it is made. One process at a time.
        wanted: Tells from a member's name (`train2014/COCO_train2014_000000000009.jpg`) whether to unpack it.
        force: Replace files that are there with another size.
        advance: Takes the bytes that each member has brought, before the next; None shows a bar.

    Returns:
        How many files were written.

    Raises:
        DataError: the file is no zip file, is damaged, or has a member that would lie outside of `root`; the disk has
            no room; or files of another size are in the way.
    """
    root.mkdir(parents=True, exist_ok=True)
    folders: set[Path] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            missing = _missing(archive, path, root, wanted, force)
            if not missing:
                return 0
            total = sum(member.file_size for member in missing)
            require_space(root, total, f"unpacking {path.name}")
            say(f"{path} -> {root}, {len(missing):,} files")
            folders = {(root / member.filename).parent for member in missing}
            for folder in folders:
                shutil.rmtree(folder / DRAFTS, ignore_errors=True)
                (folder / DRAFTS).mkdir(parents=True)
            if advance is not None:
                _write(archive, missing, root, advance)
            else:
                with advancing(f"unpacking {path.name}", total) as show:
                    _write(archive, missing, root, show)
            return len(missing)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{path} is damaged or no zip file ({error}): delete it and repeat the command") from error
    finally:
        for folder in folders:
            shutil.rmtree(folder / DRAFTS, ignore_errors=True)


def _missing(
    archive: zipfile.ZipFile, path: Path, root: Path, wanted: Callable[[str], bool], force: bool
) -> list[zipfile.ZipInfo]:
    """The wanted members that are not there."""
    missing = []
    in_the_way = []
    for member in archive.infolist():
        if member.is_dir() or not wanted(member.filename):
            continue
        _check_place(member, path)
        target = root / member.filename
        if not target.exists():
            missing.append(member)
        elif not target.is_file() or target.stat().st_size != member.file_size:
            in_the_way.append(str(target))
            missing.append(member)
    if in_the_way and not force:
        raise DataError(
            f"{len(in_the_way)} files are there already with another size than in {path.name} "
            f"({first_of(in_the_way)}): move them away, or replace them with --force"
        )
    return missing


def _check_place(member: zipfile.ZipInfo, path: Path) -> None:
    name = PurePosixPath(member.filename)
    outside = name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(
            f"{path} has the member {member.filename!r}, which is a link or lies outside of the folder to unpack "
            "into: do not use this file"
        )


def _write(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], root: Path, advance: Advance) -> None:
    for member in members:
        target = root / member.filename
        draft = target.parent / DRAFTS / target.name
        # Reading to the end checks the CRC.
        with archive.open(member) as source, draft.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
        draft.replace(target)
        advance(member.file_size)
