"""What runs of several groups hold, in the dashboard: the chart's curves, and records that do not fit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import wandb

from callbacks.names import RD_POINTS
from callbacks.rd_points import point_row
from lightning_modules.cli import main
from lightning_modules.dashboard.content import read_content
from lightning_modules.dashboard.vega import rd_chart
from tests.dashboard_server import serve
from tests.record_helpers import make_record, write
from tests.test_dashboard import drawn, points_of

Records = list[dict[str, Any]]


def taco_at(lmbda: float, bpp: float, psnr: float, **changes: Any) -> dict[str, Any]:
    return make_record("taco", lmbda, bpp=bpp, psnr=psnr, **changes)


def held(folder: Path, *groups: tuple[str, Records]) -> dict[Path, str]:
    """Folders as they are fetched."""
    for number, (_, records) in enumerate(groups):
        for run, record in enumerate(records):
            write(folder / str(number) / f"run{run}" / "results" / f"{record['dataset']}.json", record)
    return {folder / str(number): group for number, (group, _) in enumerate(groups)}


SWEPT = [taco_at(l_, b, p) for l_, b, p in ((0.0004, 0.1, 25.0), (0.0016, 0.3, 29.0), (0.009, 0.8, 33.0))]
SMALL = [taco_at(l_, b, p) for l_, b, p in ((0.0008, 0.2, 20.0), (0.004, 0.5, 22.0))]
JPEG = [
    make_record("jpeg", None, setting={"quality": q}, bpp=b, psnr=p)
    for q, b, p in ((20, 0.2, 24.0), (50, 0.5, 28.0), (90, 1.4, 34.0))
]


def test_curves_are_those_of_the_chart(tmp_path: Path) -> None:
    ablation = [taco_at(r["lambda"], r["mean"]["bpp"], r["mean"]["psnr"] - 1) for r in SWEPT]
    for record in ablation:
        record["setting"] = {"k_p": 0.0}
    groups = (("taco_lambda", SWEPT), ("", SMALL), ("ablation", ablation))
    for number, record in enumerate(JPEG):
        write(tmp_path / "own" / f"{number}.json", record)
    content = read_content([tmp_path / "own"], held(tmp_path, *groups))
    rows = [{**point_row(record, group), "name": "run"} for group, records in groups for record in records]
    chart = drawn(rd_chart(content.local), rows, "psnr", "kodak")
    shown = {(name, round(x, 6), round(y, 6)) for name, x, y in points_of(chart)}
    curves = {c.codec: c for c in content.curves}
    assert {
        (c.codec, round(p.bpp, 6), round(p.figures["psnr"], 6)) for c in content.curves for p in c.points
    } == shown
    assert list(map(len, (curves[n].points for n in ("taco", "taco · taco_lambda", "jpeg")))) == [2, 3, 3]
    (table,) = content.bd_tables()
    assert {row[0] for row in table.rows} == {"taco", "taco · taco_lambda", "taco (k_p 0.0) · ablation"}
    assert not content.notices


def test_this_machine_has_curves_of_its_own(tmp_path: Path) -> None:
    for number, record in enumerate([*SMALL, taco_at(0.02, 1.2, 36.0)]):
        write(tmp_path / "own" / f"{number}.json", record)
    content = read_content([tmp_path / "own"], held(tmp_path, ("", SMALL)))
    assert {curve.codec: len(curve.points) for curve in content.curves} == {"taco": 2, "taco (local)": 1}
    assert [row["curve"] for row in content.local] == ["taco (local)"]


def test_unfit_records_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    quick = taco_at(0.02, 1.5, 36.0, count=2)
    wrong = taco_at(0.03, 1.7, 37.0)
    wrong["mean"]["bpp"] = 9.0
    folders = held(tmp_path, ("night", [*SWEPT, quick, wrong]))
    torn = tmp_path / "0" / "run9" / "results" / "kodak.json"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"schema": 1, "codec"')
    content = read_content([], folders)
    assert [(curve.codec, len(curve.points)) for curve in content.curves] == [("taco · night", 3)]
    told = {notice.split(": ")[0]: notice for notice in content.notices}
    assert set(told) == {f"run {run}, results/kodak.json" for run in ("run3", "run4", "run9")}
    assert "λ = 0.02 was tested on 2 images of kodak, not on the 3" in told["run run3, results/kodak.json"]
    assert "mean.bpp is 9.0" in told["run run4, results/kodak.json"]
    assert "is not JSON" in told["run run9, results/kodak.json"]
    assert str(tmp_path) not in "".join(content.notices)


def test_a_newer_quick_test_does_not_hide_the_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    runs = {"whole": SWEPT[0], "other": SWEPT[1], "quick": taco_at(0.0004, 0.11, 26.0, count=2)}
    (tmp_path / "torn.json").write_text("[1")
    with serve() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        wandb.teardown()  # it remembers the server that it was first used with
        for run, record in runs.items():
            files = {"results/kodak.json": write(tmp_path / f"{run}.json", record)}
            server.runs[run] = {"group": "a/b", "sweep": None, "summary": {RD_POINTS: {}}, "files": files}
        torn = {"results/kodak.json": tmp_path / "torn.json"}
        server.runs["torn"] = {"group": "a_b", "sweep": None, "summary": {RD_POINTS: {}}, "files": torn}
        main(["dashboard", "--entity", "team", "--project", "taco"])
        wandb.teardown()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Not shown")]
    assert len(told) == 2 and "run quick, results/kodak.json" in "".join(told)
    report = json.dumps(server.views[server.upserts[1]]["spec"], ensure_ascii=False)
    assert len(re.findall(r"\| taco · a/b \| kodak \| λ = ", report)) == 2 and "Not shown: run torn" in report
