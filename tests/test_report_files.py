"""`report` without a browser: what it writes, that it is right, and what it refuses."""

import base64
import io
import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.report import main
from lightning_modules.reports import static_figures
from lightning_modules.reports.curves import load_curves
from lightning_modules.reports.picture_section import MAX_PIXELS, shown_part
from lightning_modules.reports.pictures import Window, common_rate, luma, match_pictures, psnr, telling_window
from lightning_modules.reports.strips import draw_strip
from lightning_modules.reports.style import readable, style_curves
from tests.report_helpers import CODECS, IMAGES, SIZE, write_json, write_records


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def report(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    main([str(material / "records"), "-o", str(folder)])
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One format of figures only, for tests that look at something else."""
    monkeypatch.setattr(static_figures, "FORMATS", {".svg": static_figures.FORMATS[".svg"]})


def copy_of(material: Path, tmp_path: Path) -> Path:
    shutil.copytree(material / "records", tmp_path / "records")
    return tmp_path / "records"


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_everything_is_written_and_twice_the_same(material: Path, report: Path, tmp_path: Path) -> None:
    first = contents(report)
    stems = [f"figures/sample_{name}" for name in ("psnr", "ssim", "all")]
    assert {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg", "pdf")} <= set(first)
    assert {f"pictures/sample_{name}.png" for name in IMAGES} <= set(first)
    tables = ("points_sample", "cost_sample", "not_available_sample", "protocols_sample", "sources_sample")
    assert {f"tables/{t}.{s}" for t in (*tables, "bd_sample_psnr") for s in ("csv", "tex")} <= set(first)
    main([str(material / "records"), "-o", str(tmp_path / "again")])
    assert contents(tmp_path / "again") == first


def test_figures_are_for_papers(report: Path) -> None:
    with Image.open(report / "figures" / "sample_psnr.png") as picture:
        assert min(picture.info["dpi"]) > 200
        assert picture.width / picture.info["dpi"][0] == pytest.approx(3.45, abs=0.02)
    svg = (report / "figures" / "sample_psnr.svg").read_text(encoding="utf-8")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"PSNR (dB) ↑", "rate (bits per pixel)", "JPEG", "WebP", "AVIF"} <= set(texts)


def test_curves_in_the_page_are_those_of_the_records(material: Path, report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    drawing = json.loads(re.search(r'id="data-sample_psnr">(.*?)</script>', page).group(1))  # type: ignore[union-attr]
    drawn = {trace["meta"]["curve"]: trace for trace in drawing["data"] if trace["meta"]["role"] == "mean"}
    for codec, title in (("jpeg", "JPEG"), ("webp", "WebP"), ("avif", "AVIF")):
        records = [json.loads(p.read_text()) for p in (material / "records" / codec).rglob("sample.json")]
        expected = sorted((r["mean"]["bpp"], r["mean"]["psnr"]) for r in records)
        assert list(zip(drawn[title]["x"], drawn[title]["y"], strict=True)) == expected
    assert "</script><b>" not in page  # what a record says is text, also where it looks like markup
    assert str(Path.home()) not in drawing["layout"].__repr__()


def test_embedded_pictures_are_the_files(material: Path, report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r'src="data:image/webp;base64,([^"]+)" alt="([^"]+)"', page)
    decoded = {alt: np.array(Image.open(io.BytesIO(base64.b64decode(code)))) for code, alt in shown}
    for name in IMAGES:
        original = pixels(material / "originals" / f"{name}.png")
        assert np.array_equal(decoded[f"{name}.png, Original"], original)
        files = [pixels(path) for path in (material / "records" / "jpeg").rglob(f"{name}.png")]
        jpeg = decoded[f"{name}.png, JPEG"]
        assert any(np.array_equal(jpeg, file) for file in files)
        difference = np.abs((original.astype(float) - jpeg) @ [0.299, 0.587, 0.114])
        levels = np.clip(np.rint(difference * 255 / 32), 0, 255).astype(int)
        error = decoded[f"{name}.png, JPEG: luma error"]
        assert np.mean(np.all(error == mpl.colormaps["inferno"](levels, bytes=True)[..., :3], axis=2)) > 0.999


def test_pictures_are_measured_independently(material: Path) -> None:
    a = pixels(material / "originals" / "chelsea.png")
    b = pixels(material / "records" / "jpeg" / "10" / "chelsea.png")
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-9)
    assert np.abs(luma(a) - np.array(Image.fromarray(a).convert("L"), dtype=float)).max() <= 0.51
    window = telling_window(a, [b, a])
    spread = np.abs(luma(a) - luma(b))
    sums = {
        (x, y): spread[y : y + window.height, x : x + window.width].sum()
        for x, y in itertools.product(range(SIZE[0] - window.width + 1), range(SIZE[1] - window.height + 1))
    }
    assert sums[window.x, window.y] == pytest.approx(max(sums.values()), rel=1e-9)


def test_common_rate() -> None:
    # 0.4 and 0.5 are reached by all three codecs, 0.1 by one, 0.3 and 0.6 and 0.8 by two.
    assert common_rate([[0.1, 0.5], [0.3, 0.6], [0.4, 0.8]]) == pytest.approx(0.45)
    assert common_rate([[0.2], [], [0.9]]) == pytest.approx(0.55)


def test_nearest_rate_is_shown_in_ratio(material: Path) -> None:
    curves = load_curves([material / "records"])
    (match,), problems = match_pictures(curves, ("chelsea.png",), target=0.7)
    assert not problems and len(match.reconstructions) == len(CODECS)
    for shown in match.reconstructions:
        (curve,) = [curve for curve in curves if curve.codec == shown.codec]
        rates = [p.figures["bpp"] for point in curve.points for p in point.pictures if p.name == "chelsea.png"]
        assert shown.bpp == min(rates, key=lambda rate: max(rate / 0.7, 0.7 / rate))


def test_strip_holds_every_pixel(material: Path) -> None:
    (match,), _ = match_pictures(load_curves([material / "records"]), ("chelsea.png",), zoom=(40, 30, 24))
    assert match.zoom == (40, 30, 24, 16)
    strip = np.array(draw_strip(match))
    scale = -(-400 // SIZE[0])
    enlarged = np.kron(match.zoom.cut(match.original), np.ones((scale * 8, scale * 8, 1), dtype=np.uint8))
    height, width = enlarged.shape[:2]
    assert any(np.array_equal(strip[y : y + height, :width], enlarged) for y in range(strip.shape[0] - height + 1))


def test_large_pictures_are_embedded_around_the_window(material: Path) -> None:
    (match,), _ = match_pictures(load_curves([material / "records"]), ("chelsea.png",))
    assert shown_part(match) == (0, 0, *SIZE)
    for x, y in ((0, 0), (1500, 900), (2500, 1700)):
        large = replace(match, original=np.zeros((2000, 3000, 3), np.uint8), zoom=Window(x, y, 500, 300))
        part = shown_part(large)
        assert 0.98 * MAX_PIXELS <= part.width * part.height <= MAX_PIXELS
        assert part.x <= x and x + 500 <= part.x + part.width <= 3000
        assert part.y <= y and y + 300 <= part.y + part.height <= 2000


def test_styles_belong_to_codecs(material: Path) -> None:
    curves = readable(load_curves([material / "records"]))
    assert [curve.codec for curve in curves] == ["AVIF", "JPEG", "WebP"]
    styles = style_curves(curves)
    assert len({style.colour for style in styles}) == len({style.plotly_marker for style in styles}) == 3
    assert style_curves([*curves, *curves])[3:] == styles


@pytest.mark.usefixtures("quick")
def test_originals_that_are_not_what_was_measured(material: Path, tmp_path: Path) -> None:
    shutil.copytree(material / "originals", tmp_path / "originals")
    altered = tmp_path / "originals" / "chelsea.png"
    Image.open(altered).rotate(180).save(altered)
    cropped = tmp_path / "originals" / "astronaut.png"
    Image.open(cropped).crop((0, 0, 100, 100)).save(cropped)
    out = tmp_path / "out"
    main([str(material / "records"), "-o", str(out), "--originals", str(tmp_path / "originals")])
    page = (out / "index.html").read_text(encoding="utf-8")
    assert not (out / "pictures").exists() and "data:image/webp" not in page
    assert "the files on disk are not what was measured" in page
    assert "the original on disk is not what was measured" in page


@pytest.mark.usefixtures("quick")
def test_missing_files_are_named(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = copy_of(material, tmp_path)
    for path in records.rglob("chelsea.png"):
        path.unlink()
    for path in records.rglob("sample.json"):
        record = json.loads(path.read_text())
        record["images"][0]["original"] = "$DATA_ROOT/gone/astronaut.png"
        write_json(path, record)
    main([str(records), "-o", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "chelsea.png" in said and "beside the record, is missing" in said
    assert "$DATA_ROOT/gone/astronaut.png" in said and "--originals" in said
    main([str(records), "-o", str(tmp_path / "out"), "--originals", str(material / "originals")])
    assert (tmp_path / "out" / "pictures" / "sample_astronaut.png").exists()


@pytest.mark.usefixtures("quick")
def test_a_second_report_replaces_the_first_and_nothing_else(material: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main([str(material / "records"), "-o", str(out)])
    (out / "figures" / "mine.png").write_bytes(b"mine")
    (tmp_path / "outside.txt").write_text("kept")
    manifest = json.loads((out / "report.manifest").read_text())
    write_json(out / "report.manifest", {**manifest, "files": [*manifest["files"], "../outside.txt"]})
    main([str(material / "records" / "jpeg"), str(material / "records" / "webp"), "-o", str(out), "--pictures", "0"])
    assert (out / "figures" / "mine.png").read_bytes() == b"mine"
    assert (tmp_path / "outside.txt").exists()
    assert not list((out / "pictures").glob("*"))
    assert "AVIF" not in (out / "index.html").read_text(encoding="utf-8").split("<script>")[0]


@pytest.mark.usefixtures("quick")
def test_datasets_have_parts_of_their_own(material: Path, tmp_path: Path) -> None:
    records = copy_of(material, tmp_path)
    for path in (records / "webp").rglob("sample.json"):
        record = json.loads(path.read_text())
        write_json(path, {**record, "dataset": "other set"})
    main(
        [
            str(records),
            "-o",
            str(tmp_path / "out"),
            "--pictures",
            "0",
            "--anchor",
            "AVIF",
            "--log_rate",
            "--common_range",
        ]
    )
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert 'id="sample"' in page and 'id="other-set"' in page and "there is one only" in page
    assert (tmp_path / "out" / "figures" / "other-set_psnr.svg").exists()
    assert "against AVIF" in (tmp_path / "out" / "tables" / "bd_sample_psnr.csv").read_text(encoding="utf-8")


@pytest.mark.usefixtures("quick")
def test_printed_figures_are_laid_over(material: Path, tmp_path: Path) -> None:
    shared = {"schema": 1, "source": {"paper": "A. Author", "venue": "2024", "where": "Table 1"}, "notes": ["a note"]}
    rd = {"codec": "jpeg", "setting": "", "bpp": 1.25, "figures": {"psnr": 30.5}}
    bd = {"codec": "TACO", "figures": {"mse": -0.00012, "psnr": 1.5}}
    curve = {"title": "points", "kind": "rd", "dataset": "sample", "points": [rd]}
    table = {"title": "deltas", "kind": "bd", "dataset": "sample", "anchor": "ELIC", "rows": [bd]}
    units = {"units": {"mse": "1", "psnr": "dB"}}
    write_json(tmp_path / "rd.json", {**shared, **curve})
    write_json(tmp_path / "bd.json", {**shared, **table, **units})
    files = [str(tmp_path / name) for name in ("rd.json", "bd.json")]
    main([str(material / "records"), "-o", str(tmp_path / "out"), "--pictures", "0", "--references", *files])
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    drawing = json.loads(re.search(r'id="data-sample_psnr">(.*?)</script>', page).group(1))  # type: ignore[union-attr]
    traces = {trace["name"]: trace for trace in drawing["data"]}
    printed, measured = traces["JPEG (printed)"], traces["JPEG"]
    assert (printed["x"], printed["y"], printed["mode"]) == ([1.25], [30.5], "markers")
    assert printed["marker"]["symbol"] == measured["marker"]["symbol"] + "-open"
    assert printed["marker"]["color"] == measured["marker"]["color"]
    assert "As printed: deltas, against ELIC" in page and "−0.00012" in page and "a note" in page


@pytest.mark.usefixtures("quick")
def test_bad_input_is_named(material: Path, tmp_path: Path) -> None:
    records, out = copy_of(material, tmp_path), ["-o", str(tmp_path / "out")]

    def fails(*args: object) -> str:
        with pytest.raises(CommandError) as error:
            main([*map(str, args)])
        assert not (tmp_path / "out" / "index.html").exists()
        return str(error.value)

    (tmp_path / "empty").mkdir()
    assert "holds no result record" in fails(tmp_path / "empty", *out)
    assert "does not exist" in fails(tmp_path / "nowhere", *out)
    assert "no such codec" in fails(records, *out, "--anchor", "bpg")
    assert "no record has such an image" in fails(records, *out, "--pictures", "kodim99.png")
    assert "is not inside" in fails(records, *out, "--zoom", "150,0,64")
    assert "no such folder" in fails(records, *out, "--originals", tmp_path / "nowhere")
    assert "cannot be read" in fails(records, *out, "--references", tmp_path / "nowhere.json")
    assert "is a file" in fails(records, "-o", records / "jpeg" / "10" / "sample.json")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    assert "holds something that is no report" in fails(records, "-o", tmp_path / "thesis")
    main([str(records), "-o", str(tmp_path / "thesis"), "--pictures", "0", "--force"])
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"
    damaged = records / "jpeg" / "10" / "sample.json"
    damaged.write_text(damaged.read_text()[:200])
    assert str(damaged) in fails(records, *out)
    for wrong in (["--match_bpp", "0"], ["--match_bpp", "nan"], ["--zoom", "1,2"], ["--pictures", ","]):
        with pytest.raises(SystemExit):
            main([str(records), *out, *wrong])
