"""Downloads that are interrupted, refused, wrong or without ranges, from a real server on the loopback interface."""

import random
import re
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.preparation.download import ATTEMPTS, ConnectionFailedError, download
from datamodules.preparation.releases import COCO, Archive
from datamodules.preparation.space import require_space
from tests.preparation_helpers import Behaviour, file_server, published

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    (folder / "zips").mkdir(parents=True)
    (folder / "zips" / "a.zip").write_bytes(CONTENT)
    return folder


def fetch(server: Behaviour, folder: Path, archive: Archive | None = None) -> tuple[Path, list[float]]:
    waits: list[float] = []
    archive = archive or published(server.folder, "zips/a.zip")
    return download(archive, server.url, folder, wait=waits.append), waits


def test_a_download_is_checked_and_named_last(served: Path, tmp_path: Path) -> None:
    with file_server(served) as server:
        path, waits = fetch(server, tmp_path / "here")
        assert path == tmp_path / "here" / "a.zip"
        assert path.read_bytes() == CONTENT
        assert [file.name for file in path.parent.iterdir()] == ["a.zip"]
        assert fetch(server, tmp_path / "here") == (path, [])
        assert (server.asked, waits) == ([("/zips/a.zip", None)], [])


def test_broken_connections_continue_where_they_broke(served: Path, tmp_path: Path) -> None:
    with file_server(served, cuts=[100_000, 0, 50_000]) as server:
        path, waits = fetch(server, tmp_path)
        assert path.read_bytes() == CONTENT
        # The second brought nothing, so it is waited longer; what the third brought starts the count again.
        assert [asked for _, asked in server.asked] == [None, *["bytes=100000-"] * 2, "bytes=150000-"]
        assert waits == [1, 2, 1]


def test_what_a_killed_run_has_left_is_continued(served: Path, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:123_456])
    with file_server(served) as server:
        assert fetch(server, tmp_path)[0].read_bytes() == CONTENT
        assert server.asked == [("/zips/a.zip", "bytes=123456-")]
        (tmp_path / "a.zip").rename(tmp_path / "a.zip.part")
        assert fetch(server, tmp_path)[0].read_bytes() == CONTENT
        assert len(server.asked) == 1, "all was there: only checked and renamed"


def test_a_server_without_ranges_begins_anew(served: Path, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    with file_server(served, ranges=False) as server:
        assert fetch(server, tmp_path)[0].read_bytes() == CONTENT
    (tmp_path / "a.zip").unlink()
    # It breaks off at one place for ever: that is no progress, and ends.
    with file_server(served, ranges=False, cuts=[1000] * 50) as server:
        with pytest.raises(ConnectionFailedError, match=r"a.zip cannot be downloaded \(the connection ended early\)"):
            fetch(server, tmp_path)
        assert len(server.asked) == ATTEMPTS
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:1000]


def test_a_server_that_does_not_tell_lengths(served: Path, tmp_path: Path) -> None:
    with file_server(served, length=False, cuts=[1000]) as server:
        assert fetch(server, tmp_path)[0].read_bytes() == CONTENT
    (tmp_path / "a.zip").unlink()
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    with file_server(served) as server:
        unknown = Archive("zips/a.zip")
        assert fetch(server, tmp_path, unknown)[0].read_bytes() == CONTENT
        assert server.asked == [("/zips/a.zip", "bytes=300000-")], "the server had nothing further"


def test_another_file_is_refused_before_it_is_received(served: Path, tmp_path: Path) -> None:
    archive = published(served, "zips/a.zip")
    (served / "zips" / "a.zip").write_bytes(CONTENT + b"!")
    with (
        file_server(served) as server,
        pytest.raises(DataError, match=r"300,001 bytes instead of the published 300,000"),
    ):
        fetch(server, tmp_path, archive)
    assert not list(tmp_path.glob("a.zip*"))


def test_a_corrupted_download_is_refused_and_kept_aside(served: Path, tmp_path: Path) -> None:
    archive = published(served, "zips/a.zip")
    changed = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    (served / "zips" / "a.zip").write_bytes(changed)
    with (
        file_server(served) as server,
        pytest.raises(DataError, match=r"MD5 \w{32} instead of .*kept as .*a.zip.wrong"),
    ):
        fetch(server, tmp_path, archive)
    assert (tmp_path / "a.zip.wrong").read_bytes() == changed
    assert not (tmp_path / "a.zip").exists()
    # The same command again does not stumble over it.
    (served / "zips" / "a.zip").write_bytes(CONTENT)
    with file_server(served) as server:
        assert fetch(server, tmp_path, archive)[0].read_bytes() == CONTENT
    (tmp_path / "a.zip").unlink()
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"!")
    with file_server(served) as server, pytest.raises(DataError, match=r"300,001 bytes instead of 300,000"):
        fetch(server, tmp_path, archive)
    assert server.asked == []


def test_states_that_pass_and_states_that_do_not(served: Path, tmp_path: Path) -> None:
    with file_server(served, states=[503, 429, 500]) as server:
        path, waits = fetch(server, tmp_path)
        assert (path.read_bytes(), waits) == (CONTENT, [1, 2, 4])
    path.unlink()
    with (
        file_server(served, states=[403]) as server,
        pytest.raises(ConnectionFailedError, match=r"says 403 Forbidden"),
    ):
        fetch(server, tmp_path)
    with file_server(served, states=[503] * 20) as server:
        waits = []
        with pytest.raises(ConnectionFailedError, match="503"):
            download(published(served, "zips/a.zip"), server.url, tmp_path, wait=waits.append)
    assert waits == [1, 2, 4, 8, 16, 32, 60]
    with pytest.raises(ConnectionFailedError, match=r"127.0.0.1.*cannot be downloaded .*refused"):
        download(published(served, "zips/a.zip"), server.url, tmp_path, wait=lambda _: None)


@pytest.mark.parametrize(
    "server", ["htp:/x", "mirror.org/coco", "http:///x", "file:///tmp", "http://host:port", "http://[::1", ""]
)
def test_a_server_that_is_no_address_is_refused_at_once(served: Path, tmp_path: Path, server: str) -> None:
    waits: list[float] = []
    with pytest.raises(
        DataError, match=rf"^{re.escape(repr(server))} is not the address of a server: set --mirror to"
    ):
        download(published(served, "zips/a.zip"), server, tmp_path / "new", wait=waits.append)
    assert waits == []
    assert not (tmp_path / "new").exists()


def test_retries_are_told_when_they_are_due(served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    with file_server(served, states=[503, 429]) as server:
        archive = published(served, "zips/a.zip")
        download(archive, server.url, tmp_path, wait=lambda _: told.append(capsys.readouterr().out.splitlines()[-1]))
    assert [line.partition(": HTTP Error ")[::2] for line in told] == [
        ("a.zip", "503: Service Unavailable; trying again in 1 s (failure 1 of 8 in a row)"),
        ("a.zip", "429: Too Many Requests; trying again in 2 s (failure 2 of 8 in a row)"),
    ]


def test_ctrl_c_keeps_what_has_come(served: Path, tmp_path: Path) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with file_server(served, cuts=[200_000]) as server:
        with pytest.raises(KeyboardInterrupt):
            download(published(served, "zips/a.zip"), server.url, tmp_path, wait=interrupt)
        assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:200_000]
        fetch(server, tmp_path)
        assert server.asked[-1][1] == "bytes=200000-"


def test_a_full_disk_is_found_before_writing(served: Path, tmp_path: Path) -> None:
    with file_server(served) as server:
        with pytest.raises(DataError, match=r"a.zip takes 10+\.0 GB, but the disk of .* left: free some"):
            fetch(server, tmp_path, Archive("zips/a.zip", 10**21))
        assert server.asked == []
    require_space(tmp_path, 0, "nothing")


def test_what_is_published_adds_up() -> None:
    releases = [COCO[2014], COCO[2017]]
    totals = [
        (sum(split.images for split in release.splits.values()), sum(s.captions for s in release.splits.values()))
        for release in releases
    ]
    # 2017 divides the images and captions of 2014 anew.
    assert totals == [(123_287, 616_767)] * 2
    archives = [archive for r in releases for archive in (r.annotations, *(s.archive for s in r.splits.values()))]
    assert len({archive.md5 for archive in archives}) == len({archive.size for archive in archives}) == 6
    assert all(archive.md5 is not None and len(bytes.fromhex(archive.md5)) == 16 for archive in archives)
    assert [archive.name for archive in archives[:3]] == [
        "annotations_trainval2014.zip",
        "train2014.zip",
        "val2014.zip",
    ]
