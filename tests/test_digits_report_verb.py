"""The verb `digits_report`: which records it takes, what it writes, pictures included."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_modules.cli import main
from lightning_modules.reports.digits.grids import pairs
from lightning_modules.reports.digits.models import sort_models
from lightning_modules.reports.digits.results import read_results
from lightning_modules.reports.digits.swapped import HEAD, SCALE
from lightning_modules.reports.digits.tiles import GAP
from lightning_modules.reports.errors import ReportError
from tests.digits_record_helpers import (
    COUNT,
    SIDE,
    Drafted,
    digits_record,
    figures,
    grid,
    write_methods,
    write_realism,
    write_study,
    write_swapped,
)


def report(*results: Path, output: Path) -> str:
    """Run the verb; the page."""
    main(["digits_report", *map(str, results), "-o", str(output)])
    return (output / "README.md").read_text(encoding="utf-8")


def pictured(folder: Path) -> tuple[dict[str, np.ndarray], Path]:
    """Grids of all series of two rates; the tiles of the first, and where they are."""
    rng = np.random.default_rng(0)
    tiles: dict[str, np.ndarray] = {}
    for run, series in (("none_4", ("g1", "g2")), ("label_1", ("g2", *(f"g2_as_{k}" for k in range(10))))):
        for decoder in (*series, "original"):
            drawn = rng.integers(0, 256, (COUNT, SIDE, SIDE), dtype=np.uint8)
            tiles[f"{run}-{decoder}"] = (
                tiles["none_4-original"] if (run, decoder) == ("label_1", "original") else drawn
            )
            name = f"mnist-test-{decoder}.png"
            grid(folder / run / "grids" / name, list(tiles[f"{run}-{decoder}"]))
    return tiles, folder


def test_composite_shows_original_and_three_methods_at_one_rate(tmp_path: Path) -> None:
    tiles, folder = pictured(write_methods(tmp_path / "runs"))
    draft = Drafted(folder)
    assert set(draft.shown) == {"rates", "grid_4_1"}
    alt = "original; MSE, 4.0 bits; perceptual, Yan et al. 2021, 4.0 bits; conditional perceptual, proposed, 4.3 bits"
    assert f"![{alt}](grid_4_1.png)" in draft.page
    pixels = draft.pixels("grid_4_1", tmp_path)
    for row, names in enumerate((("none_4-original", "none_4-g1"), ("none_4-g2", "label_1-g2"))):
        for column, name in enumerate(names):
            half = pixels[row * pixels.shape[0] // 2 :, column * pixels.shape[1] // 2 :]
            first = tiles[name][0]
            found = np.lib.stride_tricks.sliding_window_view(half[:80, :80], (SIDE, SIDE))
            assert (found == first).all(axis=(2, 3)).any(), name
    # All other rates lack theirs, and the page says which.
    assert "Not shown: original; MSE, 8.0 bits; perceptual, Yan et al. 2021, 8.0 bits" in draft.page
    assert "none_8/grids/mnist-test-g1.png, none_8/grids/mnist-test-g2.png, label_4/grids/" in draft.page


def test_pairs_are_nearest_in_rate(tmp_path: Path) -> None:
    write_methods(tmp_path, leave_out=("label-12-g1", "label-12-g2"))
    (models,) = sort_models(read_results([tmp_path]).results)
    codes = [(plain and plain.code_bits, proposed and proposed.code_bits) for plain, proposed in pairs(models)]
    assert codes == [(4, 1), (8, 4), (12, 8), (16, None), (20, 16)]


def test_swapped_labels_as_table_and_picture(tmp_path: Path) -> None:
    tiles, folder = pictured(write_methods(tmp_path / "runs"))
    write_swapped(folder, [80.0 + k for k in range(10)])
    # g2's own record knows the MSE of its pictures, by which an original is recognised.
    errors = (tiles["none_4-original"].astype(float) - tiles["label_1-g2"]) ** 2
    mse = (errors.mean(axis=(1, 2)) / 255**2).tolist()
    wrong = [*mse[:3], 0.5, *mse[4:]]
    digits_record(folder / "label_1", 1, True, "g2", 4.29, **figures("label", "g2", 4.29), rows={"mse": wrong})
    # A file of its own counts before the grid.
    own = folder / "label_1" / "reconstructions" / "mnist-test-g2_as_7" / "test-00001.png"
    own.parent.mkdir(parents=True)
    Image.fromarray(np.full((SIDE, SIDE), 77, np.uint8)).save(own)
    draft = Drafted(folder)
    (row,) = draft.table("swapped")
    assert [float(row[f"as {k} [%] ↑"]) for k in range(10)] == [80.0 + k for k in range(10)]
    assert float(row["mean [%] ↑"]) == 84.5
    pixels = draft.pixels("swapped", tmp_path)

    def cut(digit: int, column: int) -> np.ndarray:
        left = column * SCALE * SIDE + (GAP if column else 0)
        top = HEAD + digit * SCALE * SIDE
        return pixels[top : top + SCALE * SIDE : SCALE, left : left + SCALE * SIDE : SCALE]

    assert (cut(5, 0) == tiles["none_4-original"][5]).all()
    assert (cut(5, 1 + 5) == tiles["label_1-g2"][5]).all()
    assert (cut(5, 1 + 2) == tiles["label_1-g2_as_2"][5]).all()
    assert (cut(1, 1 + 7) == 77).all()
    assert "No original of test-00003: with it the MSE is" in draft.page
    assert len(set(cut(3, 0).ravel())) == 1


def test_swapped_pictures_that_are_missing(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    write_swapped(folder, [80.0] * 9)
    draft = Drafted(folder)
    (row,) = draft.table("swapped")
    assert row["mean [%] ↑"] == row["as 9 [%] ↑"] == "n/a"
    assert "labels 9 are missing" in draft.page and "100 places of the picture are empty" in draft.page
    assert "swapped" not in draft.shown


def test_page_links_only_to_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = pictured(write_methods(tmp_path / "runs"))
    write_realism(folder)
    write_study(folder)
    digits_record(folder / "embedded", 4, False, "g1", 4.0, dataset="digits-test", mse=0.05)
    page = report(folder, output=tmp_path / "out")
    links = set(re.findall(r"\]\(([^)]+)\)", page))
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert links == files - {"README.md", "digits_report.manifest"}
    assert {Path(name).suffix for name in links} == {".csv", ".png", ".svg"}
    assert page.index("## digits-test") < page.index("## mnist-test")
    assert str(tmp_path) not in page
    printed = capsys.readouterr().out
    assert "Table 1: differences to the baseline" in printed and "mnist-test: Fig. 10" in printed


def test_again_gives_the_same_bytes_and_drops_old_files(tmp_path: Path) -> None:
    folder, output = tmp_path / "runs", tmp_path / "out"
    for decoder in ("g1", "g2"):
        digits_record(folder / "label_1", 1, True, decoder, 4.29, **figures("label", decoder, 4.29))
    write_realism(folder)
    report(folder, output=output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    report(folder, output=output)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    for path in (folder / "label_1" / "results").glob("*realism*"):
        path.unlink()
    report(folder, output=output)
    assert not (output / "figures" / "mnist-test_tradeoff.png").exists()


def test_other_records_are_counted(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    path = next(folder.rglob("*.json"))
    other = json.loads(path.read_text()) | {"codec": "jpeg"}
    (folder / "jpeg.json").write_text(json.dumps(other))
    (folder / "published.json").write_text(json.dumps({"name": "x", "results": {"bpp": [0.5]}}))
    older = json.loads(path.read_text()) | {"created": "2025-01-01T00:00:00+00:00"}
    older["mean"] |= {"mse": 123.0}
    (folder / "old.json").write_text(json.dumps(older))
    found = read_results([folder])
    assert (len(found.results), found.ignored, found.repeated) == (20, 2, 1)
    assert all(result.value("mse") != 123 for result in found.results)
    page = report(path.parents[1], folder / "jpeg.json", folder / "old.json", output=tmp_path / "out")
    assert "2 records of the digits codec." in page and "1 record of other codecs ignored." in page
    assert "1 record left out for a newer one" in page


def test_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits_record(tmp_path / "runs", 4, False, "g1", 4.0, mse=0.05)
    folder, output = tmp_path / "runs", tmp_path / "out"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        report(folder, output=output)
    assert "holds something that is no report" in capsys.readouterr().err
    main(["digits_report", str(folder), "-o", str(output), "--force"])
    assert (output / "notes.txt").read_text() == "mine" and (output / "README.md").is_file()


def test_no_digits_records_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = digits_record(tmp_path / "run", 4, False, "g1", 4.0, mse=0.05)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"codec": "taco"}))
    with pytest.raises(SystemExit) as stop:
        report(tmp_path / "run", output=tmp_path / "out")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "no record of the digits codec among 1 result records" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": {"decoder": "g1", "side_information": "none"}}, "'setting' of the record has no 'code_bits'"),
        ({"setting": {"decoder": "g1", "code_bits": 0, "side_information": "none"}}, "setting.code_bits is 0"),
        (
            {"setting": {"decoder": "g1", "code_bits": 4, "side_information": "text"}},
            "side_information is 'text', not one of none",
        ),
        ({"decoder": None}, "'decoder' of the record is None"),
        ({"decoder": {"name": "g1", "realism": math.inf}}, "decoder.realism is inf"),
        (
            {"setting": {"decoder": "g1", "code_bits": 4, "side_information": "none", "beta": "x"}},
            "setting.beta is 'x'",
        ),
        ({"training": {"noise_dim": -1}}, "training.noise_dim is -1"),
        ({"training": None}, "'training' of the record is None"),
        ({"mean": {"bpp": 1.004 * 4 / 1024}}, "no rate .*callbacks.Bits"),
    ],
)
def test_damaged_records_name_the_fault(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = digits_record(tmp_path / "run", 4, False, "g1", 4.0, mse=0.05)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ReportError, match=message) as error:
        read_results([tmp_path])
    assert str(path) in str(error.value)


def test_two_models_of_one_point_are_refused(tmp_path: Path) -> None:
    for width in (32, 128):
        digits_record(tmp_path / f"w{width}", 4, False, "g1", 4.0, mse=0.05, training={"width": width})
    with pytest.raises(ReportError, match=r"w128.* and .*w32.* are of two models of the 4-bit code"):
        sort_models(read_results([tmp_path]).results)


def test_kept_records_give_the_same_report(tmp_path: Path) -> None:
    _, folder = pictured(write_methods(tmp_path / "runs"))
    first, second = tmp_path / "first", tmp_path / "second"
    main(["digits_report", str(folder), "-o", str(first), "--keep_records"])
    assert len(list((first / "records").rglob("*.json"))) == len(list(folder.rglob("results/*.json")))
    page, again = (first / "README.md").read_text("utf-8"), report(first / "records", output=second)
    assert again == page and "![" in page
    for picture in [*(first / "pictures").iterdir(), *(first / "figures").glob("*.png")]:
        assert (second / picture.relative_to(first)).read_bytes() == picture.read_bytes()
