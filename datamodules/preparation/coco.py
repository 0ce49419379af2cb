"""COCO from nothing to its official layout: download, check, unpack, count."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datamodules.captions import read_json
from datamodules.errors import DataError, first_of
from datamodules.preparation.download import ConnectionFailedError, differs, download
from datamodules.preparation.extraction import extract
from datamodules.preparation.progress import gigabytes, say
from datamodules.preparation.releases import OFFICIAL_SERVER, Archive, Release, Split

_LOCK = ".prepare.lock"


@dataclass(frozen=True)
class Source:
    """Where archives come from.

    Args:
        server: URL that their paths are below.
        archives: A folder that holds them, in place of the server; it is only read.
        downloads: Where downloaded ones go.
        keep: Whether they stay there when they are unpacked.
    """

    server: str
    archives: Path | None
    downloads: Path
    keep: bool

    def dispose(self, path: Path) -> None:
        """Remove an archive that is unpacked and checked, unless it is somebody else's or is to be kept."""
        if self.keep or self.archives is not None:
            return
        path.unlink()
        if not any(self.downloads.iterdir()):
            self.downloads.rmdir()


def prepare_coco(
    root: Path,
    release: Release,
    splits: Sequence[str] = ("train", "val"),
    server: str = OFFICIAL_SERVER,
    archives: Path | None = None,
    keep_archives: bool = False,
    force: bool = False,
) -> bool:
    """Make a folder hold COCO in its official layout, and check that all of it is there.

    Afterwards there are `{root}/train{year}/` and `{root}/val{year}/` with the published number of images, the same
    ones as in `{root}/annotations/captions_{train,val}{year}.json`, which hold the published number of captions. What
    is there already is not fetched again: a second run reads the annotations, lists the folders and is done. An
    interrupted run continues where it was.

    Args:
        root: Folder of the data set; it is made.
        release: What is published.
        splits: Which of `release.splits`.
        server: URL of a mirror with the layout of the official server.
        archives: Folder with the published zip files, for machines without network. They are only read.
        keep_archives: Leave downloaded zip files in `{root}/archives`; they are removed once they are unpacked.
        force: Replace files that are in the way with another size.

    Returns:
        Whether anything had to be done.

    Raises:
        DataError: an archive cannot be had or is damaged, the disk has no room for it, or counts differ from what is
            published.
        OSError: a file cannot be written.
    """
    source = Source(server.rstrip("/"), archives, root / "archives", keep_archives)
    if archives is not None and not archives.is_dir():
        raise DataError(f"there is no folder {archives}: set --archives to the folder that holds the zip files")
    root.mkdir(parents=True, exist_ok=True)
    with _alone(root):
        done, names = _annotations(root, release, splits, source, force)
        for split in splits:
            done |= _images(root, release.splits[split], names[split], source, force)
    return done


def _annotations(
    root: Path, release: Release, splits: Sequence[str], source: Source, force: bool
) -> tuple[bool, dict[str, list[str]]]:
    """See to the annotations; tell whether there was anything to do, and the names of images by split."""
    files = {name: f"annotations/captions_{split.name}.json" for name, split in release.splits.items()}
    incomplete = not all((root / files[split]).is_file() for split in splits)
    if incomplete:
        path = _archive(release.annotations, source)
        # The other annotations of the archive, boxes and key points, take ten times the space.
        extract(path, root, lambda name: name in files.values(), force)
        for split in splits:
            if not (root / files[split]).is_file():
                raise DataError(f"{path} has no {files[split]}: it is another file than the published one")
        source.dispose(path)
    names = {}
    for split in splits:
        path, published = root / files[split], release.splits[split]
        names[split], captions = _annotated(path)
        if (len(names[split]), captions) != (published.images, published.captions):
            raise DataError(
                f"{path} has {len(names[split]):,} images and {captions:,} captions, but {published.images:,} and "
                f"{published.captions:,} are published: delete the file and repeat the command"
            )
        say(f"{path}: {captions:,} captions of {len(names[split]):,} images")
    return incomplete, names


def _images(root: Path, split: Split, names: Sequence[str], source: Source, force: bool) -> bool:
    """See to the images; tell whether there was anything to do."""
    folder = root / split.name
    incomplete = bool(_absent(folder, names))
    if incomplete:
        path = _archive(split.archive, source)
        extract(path, root, lambda name: name.startswith(f"{split.name}/"), force)
        if absent := _absent(folder, names):
            raise DataError(
                f"{folder} has {split.images - len(absent):,} of {split.images:,} images after unpacking {path}; "
                f"missing are {first_of(absent)}: it is another file than the published one"
            )
        source.dispose(path)
    say(f"{folder}: all {split.images:,} images")
    return incomplete


def _annotated(path: Path) -> tuple[list[str], int]:
    """The names of images in an annotation file, and the number of its captions."""
    content = read_json(path)
    try:
        return [image["file_name"] for image in content["images"]], len(content["annotations"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not a COCO captions file: delete it and repeat the command") from error


def _absent(folder: Path, names: Sequence[str]) -> list[str]:
    """The images without a file."""
    # One listing: a look-up per image is slow on network disks.
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return [name for name in names if name not in present]


def _archive(archive: Archive, source: Source) -> Path:
    """Find an archive, or download it."""
    if source.archives is not None:
        path = source.archives / archive.name
        if not path.is_file():
            raise DataError(
                f"there is no {path}: put the file {OFFICIAL_SERVER}/{archive.path} there{_size(archive)}, or leave "
                "--archives away to download it"
            )
    else:
        path = source.downloads / archive.name
        if not path.is_file():
            try:
                return download(archive, source.server, source.downloads)
            except ConnectionFailedError as error:
                raise DataError(
                    f"{error}. What has come is kept, and the same command continues; or fetch "
                    f"{OFFICIAL_SERVER}/{archive.path}{_size(archive)} by other means into a folder and name that "
                    "with --archives"
                ) from error
    if found := differs(path, archive):
        raise DataError(f"{path} {found}: replace it with {OFFICIAL_SERVER}/{archive.path}")
    return path


def _size(archive: Archive) -> str:
    return f" ({gigabytes(archive.size)})" if archive.size is not None else ""


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second process from writing the same files.

    Raises:
        DataError: There is one at work.
    """
    with (root / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another process prepares {root}: wait for it, or stop it") from error
        yield
