"""`report --watch`: the page follows records that come, change, break and go."""

import http.client
import json
import os
import re
import shutil
import socket
import struct
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.report import main
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.live.records import WatchedRecords
from lightning_modules.reports.live.server import Page, PageServer
from lightning_modules.reports.live.watch import LiveReport
from lightning_modules.reports.records import read_points
from lightning_modules.reports.writer import Options
from tests.report_helpers import write_json, write_records
from tests.watch_helpers import Watch, arrive, wait, watching


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(tmp_path_factory.mktemp("material")) / "records"


def drawn(page: str) -> dict[str, list[tuple[float, float]]]:
    """Codec -> (rate, PSNR) of the points that the page draws."""
    found = re.search(r'id="data-sample_psnr">(.*?)</script>', page)
    traces = json.loads(found.group(1))["data"] if found else []
    means = [trace for trace in traces if trace["meta"]["role"] == "mean"]
    return {trace["name"]: list(zip(trace["x"], trace["y"], strict=True)) for trace in means}


def expected(*files: Path) -> list[tuple[float, float]]:
    means = [json.loads(file.read_text())["mean"] for file in files]
    return sorted((mean["bpp"], mean["psnr"]) for mean in means)


def next_page(watch: Watch, before: str) -> str:
    """The page after another one."""
    known = json.loads(before)["page"]
    wait(lambda: json.loads(watch.get("state"))["page"] != known)
    return watch.get()


def test_page_follows_the_records(records: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "sweep"
    jpeg = [records / "jpeg" / quality / "sample.json" for quality in ("10", "30")]
    with watching(tmp_path, runs) as watch:
        wait(lambda: "Waiting for the first result record" in watch.said())
        first, state = watch.get(), watch.get("state")
        assert f"Waiting for the first result record in {runs} (not there yet)" in first and not drawn(first)

        arrive(records / "jpeg" / "10", runs / "q10" / "results")
        page, state = next_page(watch, state), watch.get("state")
        assert drawn(page) == {"JPEG": expected(jpeg[0])} and "Waiting" not in page.split("<script")[0]
        assert f'datetime="{json.loads(state)["page"]}"' in page and "data:image/webp" in page

        arrive(records / "jpeg" / "30", runs / "q30" / "results")
        page, state = next_page(watch, state), watch.get("state")
        assert drawn(page) == {"JPEG": expected(*jpeg)}
        assert "2 records, 2 points" in watch.said()

        # Not a record, as W&B and sweeps write them: nothing is made anew.
        write_json(runs / "q30" / "wandb-summary.json", {"loss": 1})
        broken = runs / "broken.json"
        broken.write_text(jpeg[0].read_text()[:200])
        page, state = next_page(watch, state), watch.get("state")
        assert f"Not shown: {broken} is not JSON" in page and f"Not shown: {broken}" in watch.said()
        assert drawn(page) == {"JPEG": expected(*jpeg)}

        broken.unlink()
        page, state = next_page(watch, state), watch.get("state")
        assert "Not shown" not in page

        write_json(runs / "q10" / "results" / "sample.json", {**json.loads(jpeg[0].read_text()), "codec": "bpg"})
        page, state = next_page(watch, state), watch.get("state")
        assert set(drawn(page)) == {"JPEG", "BPG"}

        shutil.rmtree(runs / "q30")
        page = next_page(watch, state)
        assert set(drawn(page)) == {"BPG"}

        assert watch.interrupt() == 0
        last = watch.said().splitlines()[-2:]
        assert last == ["", "stopped"] and "Traceback" not in watch.said()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "watch.log"]


def test_records_that_do_not_fit_keep_the_last_report(records: Path, tmp_path: Path) -> None:
    report = LiveReport(WatchedRecords([tmp_path]), Options("report", anchor="webp", pictures=0))
    arrive(records / "jpeg" / "10", tmp_path / "a")
    assert report.refresh()
    assert "Nothing to show yet: --anchor webp: no such codec" in report.page().text
    arrive(records / "webp" / "30", tmp_path / "b")
    assert report.refresh() and not report.refresh()
    good = report.page().text
    assert set(drawn(good)) == {"JPEG", "WebP"} and "warning'>N" not in good
    other = json.loads((tmp_path / "b" / "sample.json").read_text())
    (tmp_path / "c").mkdir()
    write_json(tmp_path / "c" / "sample.json", {**other, "weights": "other"})
    assert report.refresh()
    assert "Not up to date: " in report.page().text and "are both webp" in report.page().text
    assert drawn(report.page().text) == drawn(good)
    (tmp_path / "c" / "sample.json").unlink()
    assert report.refresh() and "Not up to date" not in report.page().text


def test_a_folder_that_goes_while_it_is_read_is_looked_at_again(records: Path, tmp_path: Path) -> None:
    class Vanishing(WatchedRecords):
        failures = [FileNotFoundError(2, "No such file or directory", "runs/gone")] * 2

        def look(self) -> bool:
            if self.failures:
                raise self.failures.pop()
            return super().look()

    arrive(records / "jpeg" / "10", tmp_path)
    report = LiveReport(Vanishing([tmp_path]), Options("report", pictures=0))
    assert report.refresh() and "runs/gone" in report.page().text
    assert not report.refresh()  # the same again is nothing new
    assert report.refresh() and "runs/gone" not in report.page().text and drawn(report.page().text)


def test_only_what_changed_is_read_again(records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        "lightning_modules.reports.live.records.read_points",
        lambda path, dataset: (read.append(path.parent.name), read_points(path, dataset))[1],
    )
    for quality in ("10", "30"):
        arrive(records / "jpeg" / quality, tmp_path / quality)
    # A file that two arguments reach counts once.
    watched = WatchedRecords([tmp_path, tmp_path / "10", tmp_path / "10" / "sample.json"])
    assert watched.look() and sorted(read) == ["10", "30"] and watched.count == 2
    assert list(watched.points) == [str(tmp_path)]
    assert not watched.look() and len(read) == 2
    # Another record of the same length and time, put in its place.
    file = tmp_path / "10" / "sample.json"
    times = file.stat().st_mtime_ns
    (tmp_path / "draft").write_text(file.read_text().replace('"quality 10"', '"quality 99"'))
    os.utime(tmp_path / "draft", ns=(times, times))
    (tmp_path / "draft").replace(file)
    assert watched.look() and read[2:] == ["10"]


def test_a_file_that_is_being_written_is_not_called_broken(records: Path, tmp_path: Path) -> None:
    file = tmp_path / "sample.json"
    text = (records / "jpeg" / "10" / "sample.json").read_text()
    watched = WatchedRecords([tmp_path])
    for length in (0, 100, 1000):
        file.write_text(text[:length])
        assert not watched.look() and not watched.problems
    file.write_text(text)
    assert watched.look() and watched.count == 1
    file.write_text(text[:500])
    assert not watched.look() and watched.count == 1  # what it was is shown until it is clear what it is
    assert watched.look() and watched.count == 0
    assert len(watched.problems) == 1 and str(file) in watched.problems[0]
    assert not watched.look()


def test_json_of_another_kind_is_a_problem_only_where_it_was_named(tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    write_json(file, {"kodim01.png": "a red door"})
    assert not WatchedRecords([tmp_path]).look()
    named = WatchedRecords([file])
    named.look()
    assert named.look() and "neither a result record" in named.problems[0]


def test_ports(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"port {port} is taken by another program: choose another"):
            main([str(tmp_path), "--watch", "--port", str(port)])
    for wrong in (["--port", "65536"], ["--port", "x"], ["-o", str(tmp_path / "out")], []):
        with pytest.raises(SystemExit):
            main([str(tmp_path), *(["--watch"] if wrong else []), *wrong])
    with pytest.raises(CommandError, match="--port 80 is of --watch"):
        main([str(tmp_path), "-o", str(tmp_path / "out"), "--port", "80"])
    with pytest.raises(CommandError, match="--force is of -o"):
        main([str(tmp_path), "--watch", "--force"])


def test_server_answers_this_machine_alone() -> None:
    server = PageServer(0, Page("<p>ä", "1"))
    try:
        with pytest.raises(ReportError, match="is taken"):
            PageServer(urlsplit(server.address).port or 0, server.page)

        def ask(path: str, host: str | None = None) -> tuple[int, str, str]:
            connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.address).port, timeout=20)
            connection.request("GET", path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, str(answer.getheader("Cache-Control")), answer.read().decode("utf-8")

        assert ask("/") == (200, "no-store", "<p>ä")
        assert json.loads(ask("/state")[2]) == {"page": "1"}
        assert ask("/", "localhost:9000")[0] == 200  # as through a tunnel from another port
        assert ask("/", "localhost")[0] == 200
        assert ask("/", "elsewhere.example:80")[0] == 403
        assert ask("/../etc/passwd")[0] == 404
        server.page = Page("two", "2")
        assert ask("/")[2] == "two" and json.loads(ask("/state")[2]) == {"page": "2"}
        # Whoever listens on all addresses answers here too.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", urlsplit(server.address).port or 0), 20)
    finally:
        server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(server.address).port or 0), 5)


def test_connections_that_are_reset_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = PageServer(0, Page("text", "1"))
    over = threading.Semaphore(0)
    close = server._server.shutdown_request
    monkeypatch.setattr(server._server, "shutdown_request", lambda request: (close(request), over.release()))
    try:
        place = ("127.0.0.1", urlsplit(server.address).port)
        for said in (b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"):
            with socket.create_connection(place) as connection:
                connection.sendall(said)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert over.acquire(timeout=30)
        assert capsys.readouterr().err == ""
        server.page = Page(None, "2")  # type: ignore[arg-type]
        with pytest.raises(OSError), urllib.request.urlopen(server.address, timeout=30):
            pass
        assert over.acquire(timeout=30)
        assert "AttributeError" in capsys.readouterr().err, "what is not the browser's doing is shown"
    finally:
        server.close()
