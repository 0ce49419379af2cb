"""Printed figures of papers: every file is read, numbers are what the papers print, damage is named."""

import json
from pathlib import Path

import pytest

from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.figures import KNOWN
from lightning_modules.reports.references import (
    FOLDER,
    Reference,
    bd_references,
    cost_references,
    load_references,
    read_reference,
    reference_curves,
    reference_points,
)

FILES = sorted(FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def references() -> dict[str, Reference]:
    return {reference.path.stem: reference for reference in load_references()}


def row(reference: Reference, codec: str, setting: str = ""):
    (found,) = [row for row in reference.rows if (row.codec, row.setting) == (codec, setting)]
    return found


class TestOurs:
    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
    def test_every_file_is_read(self, path):
        reference = read_reference(path)
        assert reference.rows and reference.notes
        assert reference.source.startswith(("Lee et al., ", "Xu et al., ", "Xu, NICResearch"))
        known = {figure.name for figure in KNOWN} | set(reference.units)
        for entry in reference.rows:
            assert set(entry.figures) <= known
            if reference.kind in ("rd", "rates"):
                assert 0 < entry.bpp < 8

    def test_all_are_loaded(self, references):
        assert len(references) == len(FILES) == 12
        kinds = [reference.kind for reference in references.values()]
        assert {kind: kinds.count(kind) for kind in kinds} == {"rd": 6, "rates": 2, "bd": 2, "cost": 2}

    def test_taco(self, references):
        captions = references["taco_table1_captions"]
        assert row(captions, "MS-ILLM").bpp == 0.2314
        assert row(captions, "TACO").bpp == 0.2146
        assert row(captions, "TACO").figures == {"bleu_4": 0.84, "cider_d": 8.21, "spice": 0.86}
        text = references["taco_text_coco30k"]
        assert (row(text, "TACO").bpp, row(text, "TACO").figures) == (0.226, {"lpips_01": 0.025})
        assert (row(text, "HiFiC").bpp, row(text, "HiFiC").figures) == (0.233, {"lpips_01": 0.053})

    def test_costs(self, references):
        times = references["taco_table2_times"]
        assert row(times, "TACO").figures == {
            "encode_ms": 78.60,
            "encode_high_resolution_ms": 832.07,
            "decode_ms": 102.98,
            "total_ms": 181.58,
        }
        assert "RTX 3090" in times.hardware and times.units["encode_ms"] == "ms"
        # The columns add up, so no digit is wrong in any of them; MS-ILLM's total is printed 0.01 too high.
        for entry in times.rows:
            figures = entry.figures
            assert figures["total_ms"] == pytest.approx(figures["encode_ms"] + figures["decode_ms"], abs=0.011)
        sizes = references["taco_table3_parameters"]
        assert row(sizes, "TACO").figures["parameters_m"] == 101.75
        assert row(sizes, "ELIC").figures["parameters_m"] == pytest.approx(101.75 - 63.17 - 1.65, abs=0.01)

    def test_conditional(self, references):
        mnist, streets = references["conditional_table1_mnist"], references["conditional_table2_cityscapes"]
        assert mnist.anchor == "MSE baseline" and streets.anchor == "Ballé et al. 2018"
        assert row(mnist, "Xu et al. (g2)").figures == {
            "mse": 0.0227,
            "confid": -62.15,
            "fid": -50.75,
            "accuracy": 31.19,
        }
        assert row(streets, "Xu et al. (g2)").figures == {"mse": 0.0017, "fid": -167.24, "miou": 40.32}
        assert row(streets, "Agustsson et al. 2019 (EDG+)").figures == {"miou": 16.89}
        assert all(set(row(table, table.anchor).figures.values()) == {0} for table in (mnist, streets))
        interpolated = row(references["conditional_table3_mnist"], "Xu et al. (interpolated g1 and g2)", "row 4 of 7")
        assert interpolated.bpp == pytest.approx(4.29 / 32**2)
        assert interpolated.figures == {"mse": 0.0553, "confid": 55.07, "fid": 38.15, "accuracy": 0.9729}

    def test_interpolation_is_consistent(self, references):
        """Interpolating a posterior sample with its mean: MSE(a) = MSE_1 + a² (MSE_2 - MSE_1)."""
        rows = [r for r in references["conditional_table3_mnist"].rows if r.codec.startswith("Xu et al. (interp")]
        printed = [entry.figures["mse"] for entry in rows]
        expected = [printed[-1] + a**2 * (printed[0] - printed[-1]) for a in (1, 0.9, 0.8, 0.6, 0.4, 0.2, 0)]
        assert printed == pytest.approx(expected, abs=4e-4)

    def test_regression_rates_are_those_of_the_figures(self, references):
        logged = {
            r.setting: r.bpp for r in references["conditional_regression_cityscapes"].rows if "Ballé" in r.codec
        }
        figures = {r.setting: r.bpp for r in references["conditional_rates_cityscapes"].rows if "Yan" in r.codec}
        assert list(logged.values()) == pytest.approx(list(figures.values()), abs=1e-4)

    def test_misprints_are_marked_and_not_drawn(self, references):
        doubtful = {(r.codec, name) for name, reference in references.items() for r in reference.rows if r.doubtful}
        assert doubtful == {("TACO", "taco_table4_captioners"), ("HiFiC", "conditional_table2_cityscapes")}
        assert all(entry.bpp == 0.0148 for entry in references["taco_table4_captioners"].rows)
        curves = reference_curves(references.values())
        assert all(point.bpp != 0.0148 for curve in curves for point in curve.points)

    def test_curves(self, references):
        curves = reference_curves(references.values())
        assert all(curve.kind == "printed" and curve.points for curve in curves)
        assert len({(curve.codec, curve.dataset) for curve in curves}) == len(curves)
        (taco,) = [curve for curve in curves if (curve.codec, curve.dataset) == ("TACO", "mscoco_30k_list")]
        (point,) = taco.points
        assert (point.label, point.bpp, point.kind) == ("", 0.226, "printed")
        assert "ICML 2024" in point.source and "section 4.2" in point.source
        assert any("[0, 1]" in note for note in taco.notes)
        (streets,) = [c for c in curves if (c.codec, c.dataset) == ("Ballé et al. 2018", "cityscapes")]
        assert [point.bpp for point in streets.points] == [0.02028, 0.03502, 0.06465, 0.11086]
        assert streets.points[0].label == "λ = 0.0003"
        points = reference_points(references.values())
        assert sum(len(curve.points) for curve in curves) == len(points) == 4 + 2 + 13 + 4 + 8

    def test_tables(self, references):
        assert [r.path.stem for r in bd_references(references.values())] == [
            "conditional_table1_mnist",
            "conditional_table2_cityscapes",
        ]
        assert [r.path.stem for r in cost_references(references.values())] == [
            "taco_table2_times",
            "taco_table3_parameters",
        ]


GOOD = {
    "schema": 1,
    "title": "A table",
    "kind": "rd",
    "source": {"paper": "A. Author, A paper", "venue": "A venue", "where": "Table 1"},
    "dataset": "kodak",
    "notes": [],
    "points": [{"codec": "a", "setting": "", "bpp": 0.5, "figures": {"psnr": 30.0}}],
}


def written(folder: Path, **changes) -> Path:
    path = folder / "reference.json"
    path.write_text(json.dumps(GOOD | changes))
    return path


def one_point(**changes) -> list[dict]:
    point = GOOD["points"][0] | changes
    return [{key: value for key, value in point.items() if value is not ...}]


class TestBadFiles:
    def test_the_good_one(self, tmp_path):
        assert read_reference(written(tmp_path)).rows[0].bpp == 0.5

    def test_doubtful_points_are_left_out_of_a_curve_and_named(self, tmp_path):
        points = [*one_point(), *one_point(setting="q 2", bpp=5, doubtful="Ten times too high.")]
        (curve,) = reference_curves([read_reference(written(tmp_path, points=points))])
        assert [point.bpp for point in curve.points] == [0.5]
        assert "Not drawn: q 2 of A. Author, A paper, A venue, Table 1. Ten times too high." in curve.notes

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"schema": 2}, "schema is 2"),
            ({"kind": "curve"}, "kind is 'curve'"),
            ({"dataset": ""}, "dataset is ''"),
            ({"source": {"paper": "A", "venue": "B"}}, "source lacks where"),
            ({"points": []}, "points is not a list of at least one"),
            ({"hardware": "a GPU"}, "has hardware"),
            ({"points": one_point(bpp=0)}, r"points\[0\]\.bpp is 0, not above 0"),
            ({"points": one_point(bpp=True)}, r"points\[0\]\.bpp is True"),
            ({"points": one_point(bpp=...)}, r"points\[0\] lacks bpp"),
            ({"points": one_point(bpp=..., bits=4)}, "pixels"),
            ({"points": one_point(figures={})}, "at least one figure"),
            ({"points": one_point(figures={"psrn": 30})}, "'psrn'"),
            ({"points": one_point(figures={"psnr": "30"})}, r"figures\.psnr is '30'"),
            ({"points": one_point(doubt="yes")}, "has doubt"),
            ({"points": one_point() * 2}, r"points\[1\] is of the same codec, setting and rate as points\[0\]"),
        ],
    )
    def test_the_entry_is_named(self, tmp_path, changes, message):
        with pytest.raises(ReportError, match=rf"reference\.json: .*{message}"):
            read_reference(written(tmp_path, **changes))

    def test_not_json(self, tmp_path):
        path = tmp_path / "reference.json"
        path.write_text(json.dumps(GOOD).replace("30.0", "NaN"))
        with pytest.raises(ReportError, match="NaN"):
            read_reference(path)
        path.write_text("[1]")
        with pytest.raises(ReportError, match="list, not an object"):
            read_reference(path)

    def test_missing(self, tmp_path):
        with pytest.raises(ReportError, match=r"nothing\.json cannot be read"):
            load_references([tmp_path / "nothing.json"])
        with pytest.raises(ReportError, match="holds no reference"):
            load_references([tmp_path])

    def test_costs_and_differences(self, tmp_path):
        table = {key: GOOD[key] for key in GOOD if key != "points"}
        path = tmp_path / "reference.json"
        cost = table | {"kind": "cost", "hardware": "a CPU", "rows": [{"codec": "a", "figures": {"encode_ms": 0}}]}
        path.write_text(json.dumps(cost))
        with pytest.raises(ReportError, match="not above 0"):
            read_reference(path)
        rows = [{"codec": "a", "figures": {"fid": -3.5}}]
        path.write_text(json.dumps(table | {"kind": "bd", "anchor": "b", "units": {"mse": None}, "rows": rows}))
        with pytest.raises(ReportError, match=r"units\.mse is None"):
            read_reference(path)
        path.write_text(json.dumps(table | {"kind": "bd", "anchor": "b", "units": {"mse": "dB"}, "rows": rows}))
        with pytest.raises(ReportError, match="'fid', not one of mse"):
            read_reference(path)
