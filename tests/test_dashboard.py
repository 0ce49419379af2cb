"""The dashboard: its JSON, its chart, the names that it plots, and that W&B gets the same view every time."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import WandbLogger
from wandb.plot.custom_chart import CustomChartSpec

import callbacks as cb
from callbacks.names import PEAK_MEMORY, RD_POINTS
from callbacks.rd_points import as_table, point_row
from datamodules import SampleDataModule
from lightning_modules.cli import main
from lightning_modules.dashboard.content import Content, read_content
from lightning_modules.dashboard.page import commands
from lightning_modules.dashboard.panels import rd_panels, workspace
from lightning_modules.dashboard.vega import chart_name, rd_chart
from tests.conftest import ROOT, quiet_trainer, small_taco
from tests.dashboard_server import DashboardServer, serve
from tests.digit_helpers import digits_data, small_two_stage
from tests.record_helpers import make_record, sweep, write
from tests.wandb_files import offline_run

GOLDEN = ROOT / "tests" / "golden" / "dashboard.json"
PLACE = ["--entity", "team", "--project", "taco"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_all(folder: Path, records: list[dict[str, Any]]) -> None:
    for number, record in enumerate(records):
        write(folder / f"run{number}" / "results" / f"{record['dataset']}.json", record)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two codecs on Kodak, and one with two decoders on digits."""
    taco = sweep("taco", [0.1, 0.3, 0.6, 1.1], psnr=[25.0, 29.5, 32.1, 35.0], ms_ssim=[0.9, 0.94, 0.97, 0.99])
    for record in taco:
        record["config"] = {"run_dir": f"runs/taco_{record['lambda']}"}
        record["git"] = {"commit": "0123abc", "dirty": False}
    jpeg = [
        make_record("jpeg", None, setting={"quality": q}, bpp=b, psnr=p)
        for q, b, p in ((20, 0.2, 24.0), (50, 0.5, 28.0), (90, 1.4, 34.0))
    ]
    digits = []
    for name, realism in (("g1", 0.0), ("g2", 1.0)):
        record = make_record(
            "digits", None, "mnist-test", 0.01, setting={"bits": 4, "decoder": name}, psnr=20 - realism
        )
        digits.append({**record, "decoder": {"name": name, "realism": realism}})
    write_all(tmp_path / "results", [*taco, *jpeg, *digits])
    return Path("results")


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    main(["dashboard", *PLACE, "--print-json", *args])
    return json.loads(capsys.readouterr().out)


def message_of(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["dashboard", *args])
    assert exit_.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("wandb:")]
    return line


# -- what is sent ---------------------------------------------------------------------------------------------------


def test_json_is_as_reviewed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a change that is meant: `dashboard --print-json` with the arguments below, over tests/golden."""
    told = printed(capsys, "--results", str(results), "--sweep", "abc", "--anchor", "jpeg")
    assert told == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_json_without_results(capsys: pytest.CaptureFixture[str]) -> None:
    told = printed(capsys)
    assert "No result records yet" in json.dumps(told["workspace"]) and "No result records yet" in str(told["report"])


def test_chart_panels_are_queried_as_wandb_does_itself(results: Path) -> None:
    theirs = CustomChartSpec("team/x", {"y": "psnr"}, {}, key="k").config_value["panel_config"]
    panels = rd_panels(read_content([results]), "team/x")
    ours = json.loads(panels[0]._to_model().config.model_dump_json(by_alias=True, exclude_none=True))
    assert ours["transform"] == theirs["transform"]
    assert (ours["panelDefId"], ours["fieldSettings"]) == (theirs["panelDefId"], theirs["fieldSettings"])
    wanted = {field["name"]: field for field in theirs["userQuery"]["queryFields"][0]["fields"]}
    wanted["summaryTable"]["args"][0]["value"] = RD_POINTS
    for field in ours["userQuery"]["queryFields"][0]["fields"]:
        assert field == wanted[field["name"]]
    shown = [(panel.chart_strings["dataset"], panel.chart_fields["y"]) for panel in panels]
    assert shown == [("kodak", "psnr"), ("kodak", "ms_ssim"), ("mnist-test", "psnr")]


def test_commands_repeat_the_runs(results: Path) -> None:
    lines = commands(read_content([results]), ["dashboard", "--sweep", "a b"])
    assert "python -m lightning_modules.cli fit -c runs/taco_0.003/config.yaml" in lines
    assert (
        "# taco: commit 0123abc" in lines and lines[-1] == "python -m lightning_modules.cli dashboard --sweep 'a b'"
    )
    assert len(set(lines)) == len(lines)


# -- the chart ------------------------------------------------------------------------------------------------------


def drawn(chart: dict[str, Any], rows: list[dict[str, Any]], y: str, dataset: str) -> str:
    """The chart as SVG, with W&B's part done: rows of all runs, and placeholders replaced."""
    vega = pytest.importorskip("vl_convert", reason="vl-convert-python, of the dev extra, is not installed")
    text = json.dumps(chart).replace("${field:y}", y).replace("${string:dataset}", dataset)
    assert set(re.findall(r"\$\{[^}]*\}", text)) == {"${string:title}", "${string:y_title}"}
    return vega.vegalite_to_svg({**json.loads(text), "data": {"values": rows}})


def points_of(svg: str) -> set[tuple[str, float, float]]:
    """Label, rate and figure of every point."""
    pattern = r'aria-label="rate in bits per pixel: ([\d.]+); \$\{string:y_title\}: ([\d.]+); label: ([^;"]+)'
    return {(label, float(x), float(y)) for x, y, label in re.findall(pattern, svg)}


def test_chart_joins_the_points_of_each_curve(results: Path) -> None:
    local = read_content([results]).local
    place = {"codec": "taco", "decoder": None, "dataset": "kodak", "setting": "λ = 1", "lambda": 1.0, "name": "run"}
    rows = [
        {**place, "curve": "taco", "group": group, "bpp": bpp, "psnr": psnr + shift}
        for group, shift in (("", 0.0), ("night", 1.0))
        for bpp, psnr in ((0.6, 32.0), (0.2, 26.0), (0.4, 30.0))  # runs end in any order
    ]
    rows.append({**place, "curve": "taco", "group": "", "bpp": 0.3, "psnr": None})
    rows.append({**place, "curve": "taco", "group": "", "bpp": 0.3, "psnr": 28.0, "dataset": "clic"})
    svg = drawn(rd_chart(local), rows, "psnr", "kodak")
    expected = {(f"taco{' · night' if r['group'] else ''}", r["bpp"], r["psnr"]) for r in rows[:6]}
    expected |= {(r["curve"], r["bpp"], r["psnr"]) for r in local if r["dataset"] == "kodak"}  # type: ignore[misc]
    assert {(name, round(x, 6), round(y, 6)) for name, x, y in points_of(svg)} == {
        (name, round(x, 6), round(y, 6)) for name, x, y in expected
    }
    lines = re.findall(r'aria-roledescription="line mark"[^>]*? d="([^"]+)"|d="([^"]+)"[^>]*line mark', svg)
    paths = [[float(pair.split(",")[0]) for pair in re.split("[ML]", a or b)[1:]] for a, b in lines]
    assert sorted(map(len, paths)) == [3, 3, 3, 4]
    assert all(path == sorted(path) for path in paths), "each line runs from low rates to high ones"


def test_chart_has_a_name_of_its_own() -> None:
    plain, other = rd_chart(), rd_chart([{"curve": "jpeg", "dataset": "kodak", "bpp": 1.0, "psnr": 30.0}])
    assert chart_name(plain) == chart_name(rd_chart()) != chart_name(other)
    assert len(plain["layer"]) == 2 and len(other["layer"]) == 4
    columns, _ = as_table([point_row(make_record())])
    fields = set(re.findall(r'"field": "(\w+)"|datum\.(\w+)', json.dumps(plain)))
    assert {a or b for a, b in fields} - {"label", "name"} <= set(columns)


# -- the names ------------------------------------------------------------------------------------------------------


def measured(module: Any, data: Any, folder: Path, *callbacks: Any, **options: Any) -> Content:
    """What a dashboard shows of a run: really trained and tested, and logged offline."""
    logged: set[str] = set()
    for command in ("fit", "test"):
        logger = WandbLogger(project="tests", save_dir=str(folder), offline=True, job_type=command)
        shared = [cb.Bpp(), cb.Psnr(), cb.ResultRecord(), cb.Throughput(), LearningRateMonitor(), *callbacks]
        trainer = quiet_trainer(folder, logger=logger, callbacks=shared, log_every_n_steps=1, **options)
        getattr(trainer, command)(module, datamodule=data)
        wandb.finish()
    wandb.teardown()  # before that, the end of a log may not be on disk
    for command in ("fit", "test"):
        logged |= {name.removesuffix("._type") for name in offline_run(folder, command).logged()}
    return read_content([folder / "results"], logged=logged)


def plotted(content: Content) -> set[str]:
    """Every logged name in the panels of a workspace."""
    spec = workspace(content, "team", "taco", "team/x")._to_model().spec.model_dump_json(by_alias=True)
    names: set[str] = set()
    for section in json.loads(spec)["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            config = panel["config"]
            names |= {*(config.get("metrics") or []), *(config.get("mediaKeys") or [])}
            names |= {config["xAxis"]} if config.get("xAxis") else set()
    return names - {"_absolute_runtime"}


def test_every_name_that_is_plotted_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    few = {"limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}
    photographs = SampleDataModule(crops_per_image=1, batch_size=2, crop_size=64, num_workers=0)
    pictures = (cb.Reconstructions(), cb.CodingTime())
    taco = measured(small_taco(), photographs, tmp_path / "taco", *pictures, max_epochs=1, **few)
    two_stage = small_two_stage(adversarial={"critic_warmup": 0})
    few["limit_test_batches"] = 2
    digits = measured(
        two_stage,
        digits_data(),
        tmp_path / "digits",
        cb.SampleGrid(2, 2),
        max_epochs=2,
        gradient_clip_val=None,
        **few,
    )
    logged = taco.logged | digits.logged
    shown = plotted(taco) | plotted(digits)
    assert {"train/aux_loss", "train/grad_norm", "train/mse_g2", "val/sample/reconstructions"} <= shown
    missing = shown - logged
    # Of the test's figures each run has its own; a dashboard cannot know whether these pictures were asked for.
    missing -= {name for name in missing if re.fullmatch(r"test/[\w-]+/(grid|reconstructions|(en|de)code_ms)", name)}
    assert missing == (set() if torch.cuda.is_available() else {PEAK_MEMORY})
    kinds = {"reconstructions": taco, "grid": digits, "encode_ms": taco, "bpp_gap": taco}
    for kind, content in kinds.items():
        (dataset,) = content.datasets
        assert set(content.keys(dataset, kind)) <= content.logged, kind


# -- the server -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DashboardServer]:
    """A project with two runs, one tested twice, that have the records of taco at two rates."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    with serve() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        wandb.teardown()  # it remembers the server that it was first used with
        for run, record in (("old", "run0"), ("new", "run0"), ("other", "run1")):
            path = tmp_path / "results" / record / "results" / "kodak.json"
            summary = {RD_POINTS: {"_type": "table-file"}, "val/held-out/psnr": 30.0, "train/loss": 1.0}
            files = {"results/kodak.json": path, "config.yaml": path, "results/notes.txt": path}
            running.runs[run] = {"group": "night", "sweep": None, "summary": summary, "files": files}
        running.runs["training"] = {"group": "night", "sweep": None, "summary": {"train/loss": 2.0}, "files": {}}
        yield running
        wandb.teardown()


def panels_of(view: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {s["name"]: s["panels"] for s in view["spec"]["section"]["panelBankConfig"]["sections"]}


def test_the_same_view_every_time(server: DashboardServer, capsys: pytest.CaptureFixture[str]) -> None:
    main(["dashboard", *PLACE])
    first = capsys.readouterr().out
    assert len(server.views) == 2 and not server.refused
    (view, report) = server.upserts
    panels = panels_of(server.views[view])
    assert [p["config"]["fieldSettings"]["y"] for p in panels["Rate-distortion"]] == ["psnr", "ms_ssim"]
    assert "val/held-out/psnr" in json.dumps(panels["Training health"])
    (chart,) = server.charts
    assert panels["Rate-distortion"][0]["config"]["panelDefId"] == f"team/{chart}"
    assert server.charts[chart] == rd_chart(), "W&B's own tables have all points"
    text = json.dumps(server.views[report]["spec"], ensure_ascii=False)
    assert text.count("λ = 0.001") == 1, "of two tests of the same the newest counts"
    assert re.search(r"workspace +http://\S+/team/taco\?nw=\w+\nreport +http://\S+/reports/\S+", first)

    # Somebody adds a section in the browser; the same command again keeps it, and sends nothing else anew.
    sections = server.views[view]["spec"]["section"]["panelBankConfig"]["sections"]
    sections.append({**sections[1], "name": "Ours", "panels": []})
    before = panels_of(server.views[view])
    main(["dashboard", *PLACE])
    assert capsys.readouterr().out == first
    assert server.upserts == [view, report, view, report] and len(server.views) == 2 and len(server.charts) == 1
    assert panels_of(server.views[view]) == before and list(before)[-1] == "Ours"

    # A colleague without the state file, but with the view's address; and classical codecs beside the runs.
    Path(".dashboard.json").unlink()
    main(["dashboard", *PLACE, "--view", first.split()[1], "--results", "results"])
    capsys.readouterr()
    assert server.upserts[4] == view and len(server.charts) == 2
    local = list(server.charts.values())[1]["layer"][2]["data"]["values"]
    assert {row["curve"] for row in local if row["dataset"] == "kodak"} == {"jpeg", "taco"}
    assert sum(row["curve"] == "taco" for row in local) == 2, "two of four are in W&B"
    Path(".dashboard.json").unlink()
    main(["dashboard", *PLACE, "--view", first.split()[1]])
    assert len(server.charts) == 2, "the chart was there already"
    assert not server.refused


def test_one_sweep(server: DashboardServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.runs["other"]["group"] = "day"
    main(["dashboard", *PLACE, "--sweep", "day"])
    main(["dashboard", *PLACE, "--sweep", "a1b2", "day"])  # agents' runs have an id, their tests a group
    first, second = (asked["$or"] for asked in server.filters)
    assert first == [{"sweep": "day"}, {"group": "day"}]
    assert second == [{"sweep": "a1b2"}, {"group": "a1b2"}, *first]
    view = server.views[server.upserts[0]]
    assert view["displayName"] == "Rate-distortion: day"
    assert [f["value"] for f in view["spec"]["section"]["runSets"][0]["filters"]["filters"]] == ["day", "day"]
    assert json.loads(Path(".dashboard.json").read_text()).keys() == {"team/taco day", "team/taco a1b2 day"}


def test_what_goes_wrong_at_the_server(server: DashboardServer, capsys: pytest.CaptureFixture[str]) -> None:
    line = message_of(capsys, "--entity", "team", "--project", "tako")
    assert line.startswith("error: team/tako cannot be read") and "check --entity and --project" in line
    main(["dashboard", *PLACE])
    url = capsys.readouterr().out.split()[1]
    line = message_of(capsys, *PLACE, "--view", url.replace("/taco?", "/other?"))
    assert "is a view of team/other, not of team/taco" in line
    server.views.clear()
    line = message_of(capsys, *PLACE)
    assert url in line and "--view" in line and ".dashboard.json" in line


def test_what_goes_wrong_here(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--anchor vtm: no such codec" in message_of(
        capsys, *PLACE, "--print-json", "--results", str(results), "--anchor", "vtm"
    )
    assert "does not exist" in message_of(capsys, *PLACE, "--print-json", "--results", "nowhere")
    Path("state").write_text('{"team/taco": {"colour": 1}}')
    assert "state is not a file in which" in message_of(capsys, *PLACE, "--state", "state")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    wandb.teardown()
    assert "wandb login" in message_of(capsys, *PLACE)
    wandb.teardown()
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert 'pip install "wandb-workspaces' in message_of(capsys, *PLACE, "--print-json")
