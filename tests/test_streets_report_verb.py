"""The verb `streets_report`: what it writes, and the strips of pictures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callbacks.label_maps import to_label_picture
from callbacks.run_files import label_map_path
from lightning_modules.cli import main
from lightning_modules.reports.streets.strip_drawing import MAX_PNG, Panel, draw_strip, write_strip
from tests.streets_record_helpers import (
    COUNT,
    DATASET,
    HEIGHT,
    WIDTH,
    Drafted,
    draw,
    picture,
    psnr_of,
    streets_record,
)

SERIES = {"none": ("g1", "g2"), "map": ("g1", "g2")}


def pictured(folder: Path) -> Path:
    """Two models of about one rate, with originals of twice the size, reconstructions and label maps."""
    import torch

    data = folder / "data"
    data.mkdir(parents=True)
    originals = [picture(i, 2 * WIDTH, 2 * HEIGHT) for i in range(COUNT)]
    for i, original in enumerate(originals):
        original.save(data / f"scene_{i}.png")
    small = [original.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC) for original in originals]
    for side, decoders in SERIES.items():
        run = folder / "runs" / side
        for offset, decoder in enumerate(decoders, 3 if side == "map" else 8):
            decoded = [
                Image.fromarray(np.asarray(s) // (2 * offset) * (2 * offset) + np.uint8(offset)) for s in small
            ]
            for i, image in enumerate(decoded):
                draw(run, f"{DATASET}-{decoder}", i, image)
            psnr = [psnr_of(a, b) for a, b in zip(small, decoded, strict=True)]
            streets_record(
                *(run, 0.001, side == "map", decoder, 0.10 if side == "none" else 0.11),
                rows={"psnr": psnr, "mse": [10 ** (-db / 10) for db in psnr]},
                originals=[str(data / f"scene_{i}.png") for i in range(COUNT)],
            )
        for i in range(COUNT):
            path = label_map_path(run, DATASET, f"scene_{i}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            labels = (torch.arange(HEIGHT // 8 * (WIDTH // 8)) + i).reshape(HEIGHT // 8, WIDTH // 8) % 12
            to_label_picture(labels).save(path)
    return folder


def cells(strip: Path) -> list[np.ndarray]:
    """The pictures of a strip: what is above them is on white."""
    pixels = np.asarray(Image.open(strip).convert("RGB"))[-HEIGHT:]
    white = (pixels == 255).all(axis=(0, 2))
    edges = np.flatnonzero(np.diff(np.concatenate([[1], white, [1]]).astype(int)))
    return [pixels[:, left:right] for left, right in zip(edges[::2], edges[1::2], strict=True)]


def test_strips_show_original_map_and_three_methods(tmp_path: Path) -> None:
    folder = pictured(tmp_path)
    draft = Drafted(folder / "runs")
    strips = [name for name in draft.shown if name.startswith("strip")]
    assert strips == [f"strip_0.001_scene_{i}" for i in range(3)]
    found = cells(draft.write(strips[1], tmp_path))
    assert [cell.shape for cell in found] == [(HEIGHT, WIDTH, 3)] * 5
    original = Image.open(folder / "data" / "scene_1.png").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    labels = Image.open(label_map_path(folder / "runs" / "none", DATASET, "scene_1.png"))
    files = [folder / "runs" / run / "reconstructions" for run in ("none", "none", "map")]
    decoded = [
        Image.open(file / f"{DATASET}-{decoder}" / "scene_1.png")
        for file, decoder in zip(files, ("g1", "g2", "g2"), strict=True)
    ]
    enlarged = np.asarray(labels.convert("RGB")).repeat(8, axis=0).repeat(8, axis=1)
    for cell, expected in zip(found, (original, enlarged, *decoded), strict=True):
        assert np.array_equal(cell, np.asarray(expected))
    alt = draft.shown[strips[1]].alt
    assert re.fullmatch(
        r"scene_1.png: original; label map, 0.0200 bpp; MSE, 0.1000 bpp, MSE 0.00\d+; perceptual, Yan et al. 2021, "
        r"0.1000 bpp, MSE 0.00\d+; conditional, proposed, 0.1100 bpp, MSE 0.00\d+",
        alt,
    )
    assert "Not shown" not in draft.page


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = pictured(tmp_path)
    for run in SERIES:
        for i in range(COUNT):
            label_map_path(folder / "runs" / run, DATASET, f"scene_{i}.png").unlink()
    (folder / "data" / "scene_0.png").unlink()
    (folder / "runs" / "none" / "reconstructions" / f"{DATASET}-g1" / "scene_1.png").unlink()
    # Of another picture than was measured.
    draw(folder / "runs" / "map", f"{DATASET}-g2", 2, picture(9))
    draft = Drafted(folder / "runs")
    widths = [len(cells(draft.write(f"strip_0.001_scene_{i}", tmp_path))) for i in range(3)]
    assert widths == [3, 3, 3]
    lines = [line for line in draft.page.splitlines() if line.startswith("- Not shown of")]
    told = "\n".join(lines)
    assert len(lines) == 4
    assert "scene_0.png at λ = 0.001, scene_1.png at λ = 0.001, scene_2.png at λ = 0.001: the label map, for" in told
    assert "scene_0.png at λ = 0.001: the original, in " in told and "set DATA_ROOT" in told
    assert "scene_1.png at λ = 0.001: MSE, for want of its reconstruction" in told
    assert re.search(r"scene_2.png at λ = 0.001: conditional, proposed: the files on disk have .* not what was", told)


def test_no_pictures_at_all(tmp_path: Path) -> None:
    streets_record(tmp_path / "run", 0.001, True, "g2", 0.1, mse=0.05)
    draft = Drafted(tmp_path)
    assert not [name for name in draft.shown if name.startswith("strip")]
    assert "for want of its reconstruction; callbacks.Reconstructions writes it" in draft.page


def test_a_strip_that_png_cannot_hold_becomes_jpeg(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (250, 420, 3), dtype=np.uint8))
    (path,) = write_strip([Panel("noise", ("0.1 bpp",), noise)], tmp_path / "strip_0.001")
    assert path.name == "strip_0.001.jpg" and path.stat().st_size < MAX_PNG
    with Image.open(path) as opened:
        assert opened.format == "JPEG" and opened.size == draw_strip([Panel("noise", ("0.1 bpp",), noise)]).size
    (small,) = write_strip([Panel("flat", (), Image.new("RGB", (420, 250), "red"))], tmp_path / "strip_0.002")
    assert small.name == "strip_0.002.png"


def test_page_links_only_to_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = pictured(tmp_path), tmp_path / "out"
    main(["streets_report", str(folder / "runs"), "-o", str(output), "--keep_records"])
    page = (output / "README.md").read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([^)]+)\)", page))
    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    kept = {name for name in files if name.startswith("records/")}
    assert links == files - kept - {"README.md", "streets_report.manifest"}
    assert {Path(name).suffix for name in links} == {".csv", ".tex", ".png", ".svg"}
    assert str(tmp_path) not in page.replace(str(folder / "data"), "")
    printed = capsys.readouterr().out
    assert "Table 2: differences to the baseline" in printed and "4 records of the street-scenes codec." in printed
    # The kept records give the same page and the same strips.
    assert len([name for name in kept if name.endswith(".json")]) == 4
    again = tmp_path / "again"
    main(["streets_report", str(output / "records"), "-o", str(again)])
    assert (again / "README.md").read_text(encoding="utf-8") == page
    for strip in (output / "pictures").iterdir():
        assert (again / "pictures" / strip.name).read_bytes() == strip.read_bytes()
    main(["streets_report", str(output / "records"), "-o", str(again)])
    assert (again / "README.md").read_text(encoding="utf-8") == page


def test_other_records_are_ignored_and_none_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = streets_record(tmp_path / "run", 0.001, False, "g1", 0.1, mse=0.05)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"codec": "taco"}))
    with pytest.raises(SystemExit) as stop:
        main(["streets_report", str(tmp_path / "run"), "-o", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert "no record of the street-scenes codec among 1 result records" in error
    assert "configs/streets_two_stage.yaml" in error and not (tmp_path / "out").exists()
