"""Several decoders of one bitstream in one test: their figures, records, table and pictures."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import callbacks as cb
from callbacks.extractors import RandomFeatures
from callbacks.features import FeatureMetric
from callbacks.metrics.frechet import frechet_distance
from callbacks.record import conflict
from lightning_modules.reports.curves import load_curves
from lightning_modules.reports.errors import ReportError
from lightning_modules.step_output import outputs_of
from tests.callback_helpers import record, run_test, trainer
from tests.decoder_helpers import (
    CLASSES,
    DATASET,
    DECODERS,
    SIDE,
    STREAM_BITS,
    Decoders,
    TinyDigits,
    collate,
    decode,
    digits,
    metrics,
    validate_and_test,
)
from tests.ranks import finish, start

SERIES = [f"{DATASET}-{name}" for name in DECODERS]


class Counted(RandomFeatures):
    """Counts the images that pass through it, of all its copies."""

    images = 0

    def extract(self, network, images):
        Counted.images += len(images)
        return super().extract(network, images)


class TestOutputsOf:
    def test_one_and_several(self):
        batch = collate([TinyDigits(2)[i] for i in range(2)])
        several = Decoders().test_step(batch, 0)
        assert outputs_of(several) == several
        assert outputs_of(several[0]) == [several[0]]

    def test_outputs_without_images_are_left_out(self):
        of_class_one = collate([TinyDigits(2)[1]])
        outputs = outputs_of(Decoders("g1", swapped=True).test_step(of_class_one, 0))
        assert [output["dataset"] for output in outputs] == [f"{DATASET}-g1"]

    @pytest.mark.parametrize("returned", [None, torch.zeros(()), [None], {"loss": 1}])
    def test_what_is_no_output(self, returned):
        with pytest.raises(TypeError, match="a StepOutput or a list of them"):
            outputs_of(returned)

    def test_a_series_twice(self, tmp_path):
        with pytest.raises(ValueError, match=r"two outputs of 'tiny-test-g1'.*\{dataset\}-\{decoder\}"):
            run_test(tmp_path, cb.Mse(), model=Decoders("g1", "g2", "g1"), data=digits())


class TestFigures:
    def test_each_series_has_its_own(self, tmp_path):
        rate, error, fid = cb.Bits(), cb.Mse(), cb.Fid(RandomFeatures(6))
        tester = trainer(tmp_path, rate, error, fid)
        tester.test(Decoders(), digits(), verbose=False)
        images = TinyDigits(9).images
        extractor = RandomFeatures(6)
        extractor.prepare(torch.device("cpu"))
        assert list(error.summary) == sorted(SERIES)
        for series, realism in zip(SERIES, DECODERS.values(), strict=True):
            x_hat = decode(images, realism)
            mse = np.mean((images.numpy().astype(np.float64) - x_hat.numpy().astype(np.float64)) ** 2)
            assert error.summary[series]["mse"] == pytest.approx(mse, rel=1e-6)
            assert tester.callback_metrics[f"test/{series}/mse"] == pytest.approx(mse, rel=1e-5)
            expected = frechet_distance(extractor(images), extractor(x_hat))
            assert fid.summary[series]["fid_random"] == pytest.approx(expected, rel=1e-3)
            assert fid.details[series]["fid_random"]["samples"] == 9
            cross_entropy = 4 + images.double().mean().item()  # 3 and the mean for the code, 1 for the label
            assert rate.summary[series] == {
                "bits": pytest.approx(STREAM_BITS / 9),
                "bits_likelihood": pytest.approx(cross_entropy),
            }

    def test_validation(self, tmp_path):
        rate = cb.Bits()
        fitter = trainer(tmp_path, rate, cb.Mse(), max_steps=1)
        fitter.fit(Decoders(), digits(2), digits())
        assert {f"val/{series}/mse" for series in SERIES} <= fitter.callback_metrics.keys()
        # Nothing is written, so the rate is the likelihood's, and there is no other beside it.
        assert rate.summary[SERIES[0]] == {"bits": pytest.approx(4 + TinyDigits(9).images.double().mean().item())}

    def test_missing_weights_are_told_of_every_series(self, tmp_path):
        fid = cb.Fid(cb.distribution.Inception(str(tmp_path / "inception.pth")))
        with pytest.warns(UserWarning, match="fid will be recorded as not available"):
            run_test(tmp_path, fid, model=Decoders(), data=digits())
        assert list(fid.not_available) == SERIES


class TestFeatures:
    def test_originals_pass_once_for_all_decoders_and_metrics(self, tmp_path):
        few = [cb.ConFid(Counted(6), min_samples_per_class=1), cb.Kid(Counted(6)), cb.Fid(Counted(6))]
        Counted.images = 0
        run_test(tmp_path, *few, model=Decoders(), data=digits())
        assert Counted.images == 9 * (1 + len(DECODERS))
        Counted.images = 0
        run_test(tmp_path, cb.PatchFid(Counted(6), patch_size=16), model=Decoders(), data=digits())
        assert Counted.images == 9 * 5 * (1 + len(DECODERS))  # four patches of the grid, one of the shifted grid

    def test_figures_are_those_of_each_decoder_alone(self, tmp_path):
        together = [metric for metric in metrics() if isinstance(metric, FeatureMetric)]
        run_test(tmp_path, *together, model=Decoders(swapped=True), data=digits())
        for name in DECODERS:
            alone = [metric for metric in metrics() if isinstance(metric, FeatureMetric)]
            run_test(tmp_path, *alone, model=Decoders(name, alone=True), data=digits())
            for both, one in zip(together, alone, strict=True):
                series = f"{DATASET}-{name}"
                assert both.summary[series] == one.summary[series] and one.summary[series]
                assert both.details[series] == one.details[series]
        assert together[0].details[f"{DATASET}-g2_as_1"]["fid_random"]["samples"] == 5

    def test_the_store_lets_go_of_the_images(self, tmp_path):
        fid = cb.Fid(RandomFeatures(6))
        run_test(tmp_path, fid, model=Decoders(), data=digits())
        assert not fid.store._latest and fid.store._originals is None and not fid.store._known


class TestRecord:
    def test_content(self, tmp_path):
        run_test(tmp_path, *metrics(), cb.ResultRecord(), model=Decoders(), data=digits())
        assert sorted(path.stem for path in (tmp_path / "results").iterdir()) == sorted(SERIES)
        for series, (name, realism) in zip(SERIES, DECODERS.items(), strict=True):
            written = record(tmp_path, series)
            assert written["dataset"] == DATASET
            assert written["decoder"] == {"name": name, "realism": realism}
            assert written["setting"] == {"code_bits": 4, "side_information": "label", "decoder": name}
            assert written["training"] == {"noise_dim": 86} and written["lambda"] is None
            assert f"decoder {name}" in written["description"]
            rows = {row["name"]: row for row in written["images"]}
            assert list(rows) == [f"test-{i:05d}" for i in range(1, 10)]
            assert rows["test-00009"]["label"] == 0 and rows["test-00008"]["label"] == 1
            assert all(row["file_bytes"] is None for row in rows.values())
            assert sum(row["bits"] for row in rows.values()) == pytest.approx(STREAM_BITS)
            assert written["mean"]["bpp"] == pytest.approx(STREAM_BITS / 9 / SIDE**2)
            for figure in ("bits", "bpp"):
                assert written["protocols"][figure]["file"] == "holds many images, each counts an equal share"
            assert "file" not in written["protocols"]["mse"]

    def test_swapped_labels(self, tmp_path):
        run_test(tmp_path, cb.Mse(), cb.ResultRecord(), model=Decoders("g2", swapped=True), data=digits())
        rows = record(tmp_path, f"{DATASET}-g2_as_1")["images"]
        assert len(rows) == 5 and {row["label"] for row in rows} == {1}
        own = {row["name"]: row["label"] for row in record(tmp_path, f"{DATASET}-g2")["images"]}
        assert {own[row["name"]] for row in rows} == {0}

    def test_codecs_with_one_decoder_have_no_new_keys(self, tmp_path):
        run_test(tmp_path, cb.Bpp(), cb.ResultRecord())
        written = record(tmp_path)
        assert "decoder" not in written and "label" not in written["images"][0] and written["setting"] is None
        assert "file" not in written["protocols"]["bpp"]

    def test_same_weights_never_conflict(self, tmp_path):
        run_test(tmp_path, cb.Mse(), cb.ResultRecord(), model=Decoders("g1", "g2"), data=digits())
        run_test(tmp_path, cb.Mse(), cb.ResultRecord(), model=Decoders("g1"), data=digits(4))
        assert [len(record(tmp_path, series)["images"]) for series in (SERIES[0], SERIES[2])] == [4, 9]

    def test_settings_tell_codecs_without_weights_apart(self, tmp_path):
        mine = {"codec": "jpeg", "lambda": None, "weights": None, "setting": {"quality": 50}}
        for weights, refused in ((None, True), ("ab", False)):
            existing = {**mine, "weights": weights, "setting": {"quality": 75}}
            (tmp_path / "kodak.json").write_text(json.dumps(existing))
            reason = conflict(tmp_path, {**mine, "weights": weights})
            assert (reason is not None) == refused
        assert "weights 'ab'" in (conflict(tmp_path, mine) or "")


class TestTable:
    def test_one_with_a_column_per_decoder(self, tmp_path, capsys):
        run_test(tmp_path, cb.Mse(), cb.Bits(), cb.ResultRecord(), model=Decoders(), data=digits())
        printed = capsys.readouterr().out
        assert printed.count("figure") == 1
        heading = next(line for line in printed.splitlines() if "figure" in line)
        places = [heading.index(word) for word in ("figure", "g1", "realism_0.5", "g2", "unit")]
        assert places == sorted(places)
        row = next(line for line in printed.splitlines() if "mse ↓" in line)
        shown = [cell.strip() for cell in row.split("│")[2:5]]
        assert shown == [f"{record(tmp_path, series)['mean']['mse']:.4f}" for series in SERIES]
        assert f"digits, code_bits = 4, {DATASET} (9 images)" in printed
        assert all(str(tmp_path / "results" / f"{series}.json") in printed for series in SERIES)

    def test_nothing_is_cut_off(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "40")
        few = cb.ConFid(RandomFeatures(6), min_samples_per_class=1)
        run_test(tmp_path, few, cb.ResultRecord(), model=Decoders(swapped=True), data=digits())
        printed = capsys.readouterr().out
        assert "confid_floor_random ↓" in printed and "realism_0.5" in printed and "…" not in printed
        assert [cell.strip() for cell in printed.splitlines()[4].split("│")[1:6]] == ["images", "9", "9", "9", "5"]

    def test_not_available(self, tmp_path, capsys):
        wide = cb.ConFid(RandomFeatures(6), min_samples_per_class=1, num_classes=CLASSES)
        run_test(tmp_path, wide, cb.ResultRecord(), model=Decoders("g1", swapped=True), data=digits())
        lines = capsys.readouterr().out.splitlines()
        row = next(line for line in lines if "confid_random" in line).split("│")
        assert float(row[2]) > 0 and row[3].strip() == "not available"
        floor = next(line for line in lines if "confid_floor_random" in line).split("│")
        assert floor[3].strip() == ""  # neither a figure nor a reason of its own


class TestReports:
    def written(self, folder: Path) -> list[Path]:
        run_test(folder, cb.Mse(), cb.Bpp(), cb.ResultRecord(), model=Decoders(), data=digits())
        return sorted((folder / "results").iterdir())

    def test_each_decoder_is_a_curve(self, tmp_path):
        curves = load_curves(self.written(tmp_path))
        assert [(curve.codec, curve.dataset) for curve in curves] == [
            (f"digits ({name})", DATASET) for name in sorted(DECODERS)
        ]
        assert curves[0].points[0].bpp == pytest.approx(STREAM_BITS / 9 / SIDE**2)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            ({"decoder": {"name": "g2", "realism": 1.0}}, "'setting' says otherwise"),
            ({"decoder": {"name": "g1"}}, "'decoder' has no 'realism'"),
            ({"decoder": None}, "'decoder' of the record is None"),
        ],
    )
    def test_damaged(self, tmp_path, damage, message):
        path = self.written(tmp_path)[0]
        path.write_text(json.dumps(json.loads(path.read_text()) | damage))
        with pytest.raises(ReportError, match=message):
            load_curves([path])

    def test_a_size_must_still_be_positive(self, tmp_path):
        path = self.written(tmp_path)[0]
        content = json.loads(path.read_text())
        content["images"][0]["file_bytes"] = 0
        path.write_text(json.dumps(content))
        with pytest.raises(ReportError, match="'file_bytes' of image 'test-00001' is 0"):
            load_curves([path])


def near(one: Any, two: Any) -> bool:
    """Whether plain values are equal but for one in a thousand of their floats."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(near(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(near, one, two))
    return math.isclose(one, two, rel_tol=1e-3) if isinstance(one, float) else one == two


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a fit and a test on one process."""
    folder = tmp_path_factory.mktemp("one")
    validate_and_test(1, folder)
    return folder


def test_two_processes_give_the_result_of_one(one_process, tmp_path):
    """9 images on 2 processes: the sampler repeats one, which must not count twice."""
    finish(start(2, validate_and_test, 2, tmp_path))
    validated = [json.loads((folder / "validation.json").read_text()) for folder in (one_process, tmp_path)]
    figures = {name for name in validated[0] if name.startswith("val/")}
    assert {f"val/{DATASET}-{name}/fid_random" for name in (*DECODERS, "g2_as_1")} < figures
    for name in figures:
        assert validated[1][name] == pytest.approx(validated[0][name], rel=1e-5), name
    for series in (*SERIES, f"{DATASET}-g2_as_1"):
        one, two = record(one_process, series), record(tmp_path, series)
        assert len(two["images"]) == (5 if series.endswith("_as_1") else 9)
        for key in ("dataset", "setting", "decoder", "not_available", "protocols", "mean", "images"):
            if series.endswith("_as_1"):  # its images fall into batches of other sizes, where sums run otherwise
                assert near(one[key], two[key]), (series, key, one[key], two[key])
            else:
                assert two[key] == one[key], (series, key)
    first, second = (
        sorted(path.relative_to(folder) for path in folder.rglob("*.png")) for folder in (one_process, tmp_path)
    )
    assert first == second
    # Reconstructions of the first three images, of which the decoder with the other label leaves one out; and grids.
    assert len(first) == 3 * 3 + 2 + 5
    for path in first:
        assert (one_process / path).read_bytes() == (tmp_path / path).read_bytes(), path
