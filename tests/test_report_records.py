"""Reading result files, and making curves of them."""

import json
import math
from pathlib import Path

import pytest

import callbacks as cb
from callbacks.metrics.value import NotAvailable
from lightning_modules.reports.curves import build_curves, figures_of, load_curves
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.figures import is_cost
from lightning_modules.reports.model import Curve, Point
from lightning_modules.reports.records import find_records, read_points, search
from tests.callback_helpers import run_test
from tests.record_helpers import SIDE, make_curves, make_record, sweep, write

JPEG = {"bpp": [0.9, 0.3, 0.5], "psnr-rgb": [33.0, 28.0, 30.0], "ms-ssim-rgb": [0.98, 0.9, 0.95]}


def compressai(path: Path, results: dict, name: str = "JPEG", **rest) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": name, "description": "Pillow", **rest, "results": results}))
    return path


class TestSearch:
    def test_files_and_folders(self, tmp_path):
        one = write(tmp_path / "runs" / "a" / "results" / "kodak.json", make_record())
        two = compressai(tmp_path / "published" / "kodak" / "jpeg.json", JPEG)
        other = tmp_path / "runs" / "a" / "captions.json"
        other.write_text('{"im0.png": "a cat", "results": {"cider": [1.0]}}')
        (tmp_path / "runs" / "a" / "list.json").write_text("[1, 2]")
        (tmp_path / "runs" / "a" / "results" / ".kodak.77.json").write_text('{"half')  # another process's draft
        found = search([two, tmp_path / "runs", tmp_path])
        assert found.records == [two, one]
        assert sorted({path.name for path in found.skipped}) == ["captions.json", "list.json"]
        assert find_records([tmp_path / "runs"]) == [one]

    def test_nothing_there(self, tmp_path):
        with pytest.raises(ReportError, match="nowhere does not exist"):
            find_records([tmp_path / "nowhere"])
        (tmp_path / "a.json").write_text("{}")
        with pytest.raises(ReportError, match=r"holds no result record \(1 other JSON files\)"):
            find_records([tmp_path])

    def test_damaged_file_in_a_folder_is_not_skipped(self, tmp_path):
        path = write(tmp_path / "results" / "kodak.json", make_record())
        path.write_text(path.read_text()[:-40])
        with pytest.raises(ReportError, match=r"kodak\.json is not JSON"):
            load_curves([tmp_path])

    def test_named_file_that_is_no_record(self, tmp_path):
        path = tmp_path / "captions.json"
        path.write_text('{"im0.png": "a cat"}')
        with pytest.raises(ReportError, match=r"captions\.json is neither a result record"):
            load_curves([path])


class TestOurRecord:
    def test_written_by_a_test_run(self, tmp_path):
        callbacks = cb.Psnr(), cb.Bpp(), cb.CodingTime(), cb.MsSsim(), cb.ResultRecord()
        run_test(tmp_path, *callbacks, cb.Reconstructions(max_images=2, panel_images=0))
        (path,) = find_records([tmp_path])
        (point,) = read_points(path)
        assert (point.codec, point.dataset, point.label, point.kind) == ("tiny", "tiny", "λ = 0.01", "measured")
        assert point.bpp == point.figures["bpp"] == point.record["mean"]["bpp"]
        assert point.figures["psnr"] == point.record["mean"]["psnr"]
        assert "ms_ssim" not in point.figures and "all images" in point.missing["ms_ssim"]  # 40-pixel images
        rows = {row["name"]: row for row in point.record["images"]}
        assert [picture.name for picture in point.pictures] == list(rows)
        for picture in point.pictures:
            assert picture.figures["psnr"] == rows[picture.name]["psnr"]
            assert picture.original is None  # the tiny codec's images come from no file
        shown = [picture.reconstruction for picture in point.pictures if picture.reconstruction]
        assert len(shown) == 2 and all(path.is_file() for path in shown)

    def test_pictures_of_another_machine(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
        record = make_record(psnr=30.0)
        record["images"][0] |= {"original": "$DATA_ROOT/im0.png", "reconstruction": "../pictures/im0.png"}
        record["images"][1] |= {"original": "$DATA_ROOT/im1.png", "reconstruction": "../pictures/im1.png"}
        for file in (tmp_path / "data" / "im0.png", tmp_path / "run" / "pictures" / "im0.png"):
            file.parent.mkdir(parents=True)
            file.touch()
        (point,) = read_points(write(tmp_path / "run" / "results" / "kodak.json", record))
        assert point.pictures[0].original == tmp_path / "data" / "im0.png"
        assert point.pictures[0].reconstruction.samefile(tmp_path / "run" / "pictures" / "im0.png")
        assert (point.pictures[1].original, point.pictures[1].reconstruction) == (None, None)

    def test_infinite_and_missing_figures(self, tmp_path):
        reason = NotAvailable("side of 100 pixels")
        record = make_record(psnr=[math.inf, 40.0, 50.0], ms_ssim=[0.9, reason, 0.8])
        (point,) = read_points(write(tmp_path / "kodak.json", record))
        assert "psnr" not in point.figures and point.missing["psnr"] == "the mean is inf"
        assert point.figures["ms_ssim"] == pytest.approx(0.85)
        assert point.missing["ms_ssim"] == "1 of 3 images: side of 100 pixels"
        assert [sorted(picture.figures) for picture in point.pictures] == [
            ["bpp", "ms_ssim"],
            ["bpp", "psnr"],
            ["bpp", "ms_ssim", "psnr"],
        ]
        (curve,) = make_curves(tmp_path, record)
        assert "psnr, every point: the mean is inf." in curve.notes

    def test_classical_setting(self, tmp_path):
        setting = {"quality": 75, "options": "4:2:0", "encoder": "libjpeg-turbo 3.1"}
        (point,) = read_points(write(tmp_path / "kodak.json", make_record("jpeg", setting=setting)))
        assert point.label == "quality = 75" and point.codec == "jpeg"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema": 2}, "has schema 2; this version reads 1"),
            ({"schema": None}, "'schema' of the record is None; it should be int"),
            ({"codec": ""}, "'codec' of the record is empty"),
            ({"codec": 3}, "'codec' of the record is 3; it should be str"),
            ({"dataset": None}, "'dataset' of the record is None"),
            ({"lambda": "0.01"}, "'lambda' of the record is '0.01'; it should be real or null"),
            ({"setting": [75]}, r"'setting' of the record is \[75\]; it should be dict or null"),
            ({"mean": [1]}, "'mean' of the record"),
            ({"mean": {"bpp": "0.5"}}, "mean.bpp is '0.5'; it should be a number"),
            ({"mean": {"bpp": True}}, "mean.bpp is True; it should be a number"),
            ({"mean": {"bpp": "NaN"}}, "mean.bpp is nan but its 3 images have 0.5"),
            ({"mean": {"bpp": 0.51}}, "mean.bpp is 0.51 but its 3 images have 0.5"),
            ({"mean": {"bpp": 0.5, "psnr": 30}, "protocols": {"bpp": {}}}, "the protocol of bpp has no 'unit'"),
            ({"mean": {"bpp": 0.5, "fid": 30}}, "'protocols' has no 'fid'"),
            ({"mean": {}}, "has no mean 'bpp'; test again with callbacks.Bpp"),
            ({"images": []}, "holds no images"),
            ({"images": None}, "'images' of the record is None"),
            ({"images": ["im0.png"]}, r"images\[0\] is 'im0.png'"),
            ({"images": [{"name": "a"}]}, "image 'a' has no 'width'"),
            ({"parameters": {"g_a": "many"}}, "parameters.g_a is 'many'"),
            ({"kmacs_per_pixel": {"g_a": -1}}, "kmacs_per_pixel.g_a is -1"),
        ],
    )
    def test_damage(self, tmp_path, change, message):
        path = write(
            tmp_path / "kodak.json", make_record(psnr=30.0, extra=change) | {"images": make_record()["images"]}
        )
        if "images" in change:
            content = json.loads(path.read_text()) | {"images": change["images"]}
            path.write_text(json.dumps(content))
        with pytest.raises(ReportError, match=message) as error:
            read_points(path)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize(
        "key", ["schema", "codec", "dataset", "lambda", "weights", "mean", "not_available", "images"]
    )
    def test_missing_key(self, tmp_path, key):
        content = json.loads(write(tmp_path / "kodak.json", make_record(psnr=30.0)).read_text())
        del content[key]
        (tmp_path / "kodak.json").write_text(json.dumps(content))
        with pytest.raises(ReportError, match=f"the record has no '{key}'"):
            load_curves([tmp_path])  # and it is not taken for a CompressAI file, whose keys it has

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"bpp": 0}, "'bpp' of image 'im1.png' is 0"),
            ({"bpp": None}, "'bpp' of image 'im1.png' is None"),
            ({"bpp": "NaN"}, "'bpp' of image 'im1.png' is 'NaN'"),
            ({"psnr": "high"}, "psnr of image 'im1.png' is 'high'"),
            ({"width": 0}, "'width' of image 'im1.png' is 0"),
            ({"name": "im0.png"}, "image 'im0.png' occurs twice"),
            ({"original": 3}, "'original' of image 'im1.png' is 3"),
        ],
    )
    def test_damaged_row(self, tmp_path, change, message):
        record = make_record(psnr=30.0)
        record["images"][1] |= change
        with pytest.raises(ReportError, match=message):
            read_points(write(tmp_path / "kodak.json", record))


class TestCompressaiFile:
    def test_names_and_units(self, tmp_path):
        times = {"encoding_time": [0.1, 0.2, 0.3], "decoding_time": [0.01, 0.02, 0.03], "vmaf": [1, 2, 3]}
        path = compressai(tmp_path / "kodak" / "jpeg.json", JPEG | times)
        first = read_points(path)[0]
        assert (first.codec, first.dataset, first.label) == ("JPEG", "kodak", "point 1 of 3")
        assert (first.kind, first.remark, first.record) == ("compressai", "Pillow", None)
        assert first.figures == {
            "bpp": 0.9,
            "psnr": 33.0,
            "ms_ssim": 0.98,
            "encode_ms": pytest.approx(100),
            "decode_ms": pytest.approx(10),
            "vmaf": 1,
        }
        (curve,) = load_curves([path])
        assert [point.bpp for point in curve.points] == [0.3, 0.5, 0.9]
        assert "how they were computed is not recorded" in curve.notes[0] and "Pillow" in curve.notes[0]
        assert [(f.name, f.title, f.unit, f.higher_is_better) for f in figures_of([curve])] == [
            ("psnr", "PSNR", "dB", True),
            ("ms_ssim", "MS-SSIM", "", True),
            ("vmaf", "vmaf", "", None),
        ]

    def test_older_names(self, tmp_path):
        older = {"bpp": [0.5], "psnr": [30.0], "ms-ssim": [0.9], "ms-ssim-db-rgb": [10.0]}
        (point,) = read_points(compressai(tmp_path / "a.json", older))
        assert point.figures == {"bpp": 0.5, "psnr": 30.0, "ms_ssim": 0.9, "ms_ssim_db": 10.0}

    def test_dataset(self, tmp_path):
        path = compressai(tmp_path / "kodak" / "a.json", JPEG)
        stated = compressai(tmp_path / "papers" / "b.json", JPEG, meta={"dataset": "clic"})
        assert read_points(path)[0].dataset == "kodak"
        assert read_points(stated)[0].dataset == "clic"
        assert read_points(path, dataset="tecnick")[0].dataset == "tecnick"
        assert {curve.dataset for curve in load_curves([path, stated], dataset="tecnick")} == {"tecnick"}

    def test_our_own_record_agrees(self, tmp_path):
        """The part of our record that CompressAI's tools read says the same as the rest of it."""
        path = write(tmp_path / "kodak.json", make_record(psnr=31.5, ms_ssim=0.97, encode_ms=12.0, decode_ms=3.0))
        (ours,) = read_points(path)
        theirs = compressai(tmp_path / "kodak" / "x.json", json.loads(path.read_text())["results"])
        assert read_points(theirs)[0].figures == pytest.approx(ours.figures)

    @pytest.mark.parametrize(
        ("results", "message"),
        [
            ({"psnr-rgb": [30.0]}, "has no 'bpp' in 'results'"),
            ({"bpp": [0.5, 0.6], "psnr-rgb": [30.0]}, r"differ in length \(bpp 2, psnr-rgb 1\)"),
            ({"bpp": [0.5], "psnr-rgb": ["x"]}, "psnr-rgb of point 1 is 'x'"),
            ({"bpp": [0.5], "psnr-rgb": 30.0}, "'psnr-rgb' without a list"),
            ({"bpp": [0.5], "psnr-rgb": []}, "'psnr-rgb' without a list"),
            ({"bpp": [0.0], "psnr-rgb": [30.0]}, "'bpp' of point 1 is 0.0"),
        ],
    )
    def test_damage(self, tmp_path, results, message):
        with pytest.raises(ReportError, match=message):
            read_points(compressai(tmp_path / "a.json", results))

    def test_without_name(self, tmp_path):
        with pytest.raises(ReportError, match="has no 'name'"):
            read_points(compressai(tmp_path / "a.json", JPEG, name=""))

    def test_not_finite(self, tmp_path):
        path = compressai(tmp_path / "a.json", {"bpp": [0.5, 0.6], "psnr-rgb": [math.inf, 30.0]})
        (curve,) = load_curves([path])
        assert [sorted(point.figures) for point in curve.points] == [["bpp"], ["bpp", "psnr"]]
        assert "psnr, point 1 of 2: it is inf." in curve.notes

    def test_files_with_one_name_stay_apart(self, tmp_path):
        for stem in ("mbt2018_mse", "mbt2018_ms-ssim"):
            compressai(tmp_path / "kodak" / f"{stem}.json", JPEG, name="mbt2018")
        names = [curve.codec for curve in load_curves([tmp_path])]
        assert names == ["mbt2018 [mbt2018_ms-ssim]", "mbt2018 [mbt2018_mse]"]


class TestCurves:
    def test_sorted_and_grouped(self, tmp_path):
        records = [
            *reversed(sweep("taco", [0.2, 0.4, 0.8], psnr=[28.0, 31.0, 34.0])),
            *sweep("elic", [0.3], psnr=30.0),
            *sweep("taco", [0.1], dataset="clic", psnr=30.0),
        ]
        curves = make_curves(tmp_path, *records)
        assert [(c.dataset, c.codec, [p.bpp for p in c.points]) for c in curves] == [
            ("clic", "taco", [pytest.approx(0.1)]),
            ("kodak", "elic", [pytest.approx(0.3)]),
            ("kodak", "taco", [pytest.approx(0.2), pytest.approx(0.4), pytest.approx(0.8)]),
        ]
        assert [point.label for point in curves[2].points] == ["λ = 0.001", "λ = 0.002", "λ = 0.003"]

    def test_two_runs_of_one_setting(self, tmp_path):
        for run, psnr in (("a", 30.0), ("b", 31.0)):
            for i, record in enumerate(sweep("taco", [0.2, 0.4], psnr=[psnr, psnr + 3])):
                write(tmp_path / run / str(i) / "results" / "kodak.json", record | {"weights": f"{run}{i}"})
        with pytest.raises(ReportError, match=r"b/0/results.*a/0/results.*λ = 0\.001.*argument of its own"):
            load_curves([tmp_path])
        curves = load_curves([tmp_path / "a", tmp_path / "b"])
        assert [curve.codec for curve in curves] == ["taco [a]", "taco [b]"]
        assert [curve.points[0].figures["psnr"] for curve in curves] == pytest.approx([30.0, 31.0])
        assert all(point.codec == curve.codec for curve in curves for point in curve.points)

    def test_copies_count_once(self, tmp_path):
        first, second = sweep("taco", [0.2, 0.4], psnr=[30.0, 33.0])
        again = make_record("taco", lmbda=0.001, bpp=0.2, psnr=30.0, encode_ms=5.0, weights=first["weights"])
        for name, record in (("a", first), ("b", second), ("c", again)):
            write(tmp_path / name / "results" / "kodak.json", record)
        (curve,) = load_curves([tmp_path / "a", tmp_path / "a" / "results" / "kodak.json", tmp_path])
        assert [Path(point.source).parts[-3] for point in curve.points] == ["a", "b"]

    def test_variants_of_a_classical_codec(self, tmp_path):
        records = [
            make_record("jpeg", bpp=0.1 * quality, psnr=30.0 + quality, setting=setting)
            for options in ("4:2:0", "4:4:4")
            for quality in (5, 9)
            for setting in [{"quality": quality, "options": options, "encoder": "libjpeg-turbo"}]
        ]
        curves = make_curves(tmp_path, *records)
        assert [(c.codec, [p.label for p in c.points]) for c in curves] == [
            ("jpeg (4:2:0)", ["quality = 5", "quality = 9"]),
            ("jpeg (4:4:4)", ["quality = 5", "quality = 9"]),
        ]
        assert [curve.codec for curve in make_curves(tmp_path / "one", *records[:2])] == ["jpeg"]

    def test_quality_and_target_rate_are_two_curves(self, tmp_path):
        records = [
            make_record("jpeg", bpp=0.5, psnr=30.0, setting={"quality": 40, "options": "4:2:0"}),
            make_record("jpeg", bpp=0.4, psnr=29.5, setting={"target_bpp": 0.4, "options": "4:2:0"}),
        ]
        curves = make_curves(tmp_path, *records)
        assert [curve.codec for curve in curves] == ["jpeg (quality)", "jpeg (target_bpp)"]

    def test_published_beside_measured(self, tmp_path):
        write(tmp_path / "run" / "results" / "kodak.json", make_record("jpeg", psnr=30.0, setting={"quality": 5}))
        compressai(tmp_path / "kodak" / "jpeg.json", JPEG)
        assert [curve.codec for curve in load_curves([tmp_path])] == ["jpeg", "JPEG (published)"]

    def test_other_images(self, tmp_path):
        one = make_record("taco", 0.01, psnr=30.0)
        with pytest.raises(ReportError, match=r"run0.*\(3 images\).*run1.*\(4 images\).*im3\.png"):
            make_curves(tmp_path, one, make_record("taco", 0.02, psnr=31.0, count=4))
        resized = make_record("taco", 0.02, psnr=31.0)
        resized["images"][0]["width"] = SIDE + 1
        with pytest.raises(ReportError, match="not on the same images"):
            make_curves(tmp_path, one, resized)

    def test_other_images_of_another_codec_are_noted(self, tmp_path):
        one, other = make_curves(tmp_path, make_record("elic", psnr=30.0), make_record("taco", psnr=31.0, count=4))
        assert one.notes == ()
        assert other.notes == ("PSNR: not comparable with elic: elic and taco were measured on different images.",)

    def test_protocols(self, tmp_path):
        def lpips(pretrained: bool):
            return {"lpips": cb.Lpips(pretrained=pretrained)}

        records = [
            make_record("a", psnr=30.0, lpips=0.1, metrics=lpips(True)),
            make_record("b", psnr=30.0, lpips=0.1, metrics=lpips(True)),
            make_record("c", psnr=30.0, lpips=0.1, metrics=lpips(False)),
            make_record("d", 0.01, psnr=30.0, lpips=0.1, metrics=lpips(False)),
            make_record("d", 0.02, psnr=30.0, lpips=0.1, metrics=lpips(True)),
        ]
        notes = {curve.codec: curve.notes for curve in make_curves(tmp_path, *records)}
        assert notes["a"] == notes["b"] == ()
        assert len(notes["c"]) == 1 and notes["c"][0].startswith("LPIPS (AlexNet): not comparable with a:")
        assert "backbone is 'torchvision IMAGENET1K_V1' and 'random'" in notes["c"][0]
        assert len(notes["d"]) == 1 and "points are not comparable with each other" in notes["d"][0]

    def test_figures(self, tmp_path):
        curves = make_curves(tmp_path, make_record(lpips=0.1, psnr=30.0, encode_ms=3.0, decode_ms=4.0))
        assert [(f.name, f.unit, f.higher_is_better) for f in figures_of(curves)] == [
            ("psnr", "dB", True),
            ("lpips", "", False),
        ]
        assert [is_cost(name) for name in ("bpp", "bpp_y", "bpp_gap", "encode_ms", "psnr")] == [True] * 4 + [False]

    def test_figures_of_other_extractors(self):
        names = [
            "kid_std",
            "fid_patch256",
            "kid",
            "fid_clip_vit",
            "fid",
            "fid_patch64_clip_vit",
            "confid_floor",
            "zeta",
        ]
        point = Point("a", "kodak", "x", 0.5, dict.fromkeys(names, 1.0), "a table", kind="printed")
        assert [
            (f.name, f.title, f.higher_is_better) for f in figures_of([Curve("a", "kodak", "printed", (point,))])
        ] == [
            ("fid", "FID", False),
            ("fid_clip_vit", "FID (clip vit)", False),
            ("fid_patch256", "FID/256", False),
            ("fid_patch64_clip_vit", "FID/64 (clip vit)", False),
            ("kid", "KID", False),
            ("zeta", "zeta", None),
        ]

    def test_no_points(self):
        assert build_curves({}) == []
