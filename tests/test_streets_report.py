"""Tables and claims of the report of street scenes, from records whose figures are known."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.streets.models import BASELINE, HIFIC, METHODS, PROPOSED_2, YAN, sort_models
from lightning_modules.reports.streets.results import read_results
from tests.streets_record_helpers import (
    COUNT,
    HEIGHT,
    LABELLED,
    OFFSET,
    PLAIN,
    SLOPE,
    WIDTH,
    Drafted,
    figures,
    streets_record,
    write_methods,
)

COLUMNS = {"mse": "BD-MSE ↓", "fid": "BD-FID (Inception features) ↓", "miou": "BD-mIoU [points] ↑"}
SIZE = "file bpp within 1 % + 32 bytes of likelihood bpp, every image"


def three(rates: dict[float, float]) -> dict[float, float]:
    return dict(list(rates.items())[:3])


def record_of(folder: Path, lmbda: float, labelled: bool, decoder: str, critic: str = "oasis", **extra: Any) -> Path:
    """The record that `write_methods` has written, with other values."""
    rate = (LABELLED if labelled else PLAIN)[lmbda]
    run = folder / f"{'map' if labelled else 'none'}_{critic}_{lmbda}"
    values = figures(labelled, decoder, critic, rate) | extra
    return streets_record(run, lmbda, labelled, decoder, rate, critic, **values)


def test_bd_values_of_known_curves_beside_the_papers(tmp_path: Path) -> None:
    draft = Drafted(write_methods(tmp_path / "runs"))
    # Every curve is the baseline's plus OFFSET + SLOPE x: the mean over the common range is that at its middle.
    middle = (math.log(0.11) + math.log(0.45)) / 2
    rows = {row["method"]: row for row in draft.table("table2")}
    check = {row["method"]: row for row in draft.table("table2_pchip")}
    assert list(rows) == [method.name for method in METHODS]
    for method in METHODS[1:]:
        offset = OFFSET[method.labelled, method.decoder, method.critic]
        for name, column in COLUMNS.items():
            expected = offset[name] + SLOPE[name] * middle
            assert float(rows[method.name][column]) == pytest.approx(expected, rel=1e-6), (method.name, name)
            assert float(check[method.name][column]) == pytest.approx(expected, rel=0.05)
    assert {float(rows["Baseline"][column]) for column in COLUMNS.values()} == {0.0}
    printed = [[float(row[column]) for column in row if "paper" in column] for row in (rows[m.name] for m in METHODS)]
    assert printed == [
        [0, 0, 0],
        [0.0022, -132.28, 9.87],
        [0.0022, -132.28, 9.87],
        [-0.0004, -62.64, 4.97],
        [0.0017, -167.24, 40.32],
    ]
    assert "Means over 0.1100 to 0.4500 bit/pixel." in draft.page
    assert "HiFiC-like, paper: The row equals that of Yan et al. (2021)" in draft.page
    assert "Agustsson et al. 2019 (EDG+), BD-mIoU +16.89; it was not trained here" in draft.page
    assert "### Table 2: Bjøntegaard differences\n" in draft.page and "cubic fit." in draft.page


def test_three_rates_have_a_piecewise_mean_and_say_so(tmp_path: Path) -> None:
    draft = Drafted(write_methods(tmp_path / "runs", three(PLAIN), three(LABELLED)))
    middle = (math.log(0.11) + math.log(0.27)) / 2
    rows = {row["method"]: row for row in draft.table("table2")}
    expected = OFFSET[True, "g2", "oasis"]["miou"] + SLOPE["miou"] * middle
    assert float(rows["Proposed g2"][COLUMNS["miou"]]) == pytest.approx(expected, rel=0.02)
    assert "### Table 2: Bjøntegaard differences, by piecewise cubic interpolation (pchip)" in draft.page
    assert "Table 2: differences to the baseline, piecewise cubic interpolation (pchip)." in draft.page
    assert "The paper's cubic fit needs 4 rates of every method; there are fewer" in draft.page
    assert "table2_pchip" not in draft.tables


def test_a_method_with_two_rates_leaves_the_others_their_fit(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    for lmbda in (0.00125, 0.0025):
        for file in (folder / f"none_patch_{lmbda}" / "results").iterdir():
            file.unlink()
    draft = Drafted(folder)
    rows = {row["method"]: row for row in draft.table("table2")}
    assert rows["HiFiC-like"][COLUMNS["miou"]] == "n/a" != rows["Yan et al. 2021"][COLUMNS["miou"]]
    assert "HiFiC-like has 2 points with this figure; cubic needs 4" in draft.page
    assert "cubic fit." in draft.page


def test_rates_table(tmp_path: Path) -> None:
    draft = Drafted(write_methods(tmp_path / "runs"))
    rows = draft.table("rates")
    assert [row["method"] for row in rows] == [method.name for method in METHODS for _ in range(4)]
    last, first = rows[-1], rows[0]
    assert (last["λ"], float(last["rate [bit/pixel] ↓"]), float(last["Y [bit/pixel]"])) == ("0.0025", 0.46, 0.02)
    assert float(first["Y [bit/pixel]"]) == 0 and float(first["gap [bit/pixel] ↓"]) == 0.01
    expected = figures(True, "g2", "oasis", 0.46)
    assert float(last["MSE ↓"]) == pytest.approx(expected["mse"])
    assert float(last["mIoU [%] ↑"]) == pytest.approx(expected["miou"])
    assert float(last["FID (Inception features) ↓"]) == pytest.approx(expected["fid"])
    assert (float(last["PSNR [dB] ↑"]), float(last["mIoU of originals [%]"])) == (25, 62.5)
    assert (float(last["encoding [ms] ↓"]), float(last["decoding [ms] ↓"])) == (40, 30)
    assert f"FID (Inception features) is over {COUNT} samples" in draft.page
    assert "by a small network." in draft.page and "On the originals it is 62.50 %." in draft.page
    assert "rate, constant Y" not in draft.page and "stage1" not in draft.tables


def test_rate_with_the_papers_constant_for_y_and_fid_on_other_features(tmp_path: Path) -> None:
    values = {"mse": 0.003, "bpp_r_y_constant": 0.09742, "fid_patch64": 12.0, "fid_clip_vit": 3.0}
    streets_record(tmp_path / "a", 0.0003, True, "g1", 0.11, **values)
    streets_record(tmp_path / "b", 0.0003, False, "g1", 0.10, mse=0.003)
    draft = Drafted(tmp_path)
    plain, proposed = draft.table("rates")
    column = "rate, constant Y [bit/pixel] ↓"
    assert (float(plain[column]), float(proposed[column])) == (0.10, 0.09742)
    assert float(proposed["FID/64 (Inception features) ↓"]) == 12 and float(proposed["FID (clip vit) ↓"]) == 3
    assert plain["FID (clip vit) ↓"] == "n/a" and "was tested without fid_clip_vit" in draft.page
    assert plain["mIoU [%] ↑"] == "n/a"


def test_claims_hold_for_records_that_meet_them(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    for lmbda in PLAIN:
        for labelled, critic in ((False, "oasis"), (False, "patch"), (True, "oasis")):
            g1 = figures(labelled, "g1", critic, (LABELLED if labelled else PLAIN)[lmbda])
            record_of(folder, lmbda, labelled, "g2", critic, mse=2.15 * g1["mse"])
    found = Drafted(folder).checks()
    assert {row["verdict"] for row in found.values()} == {"holds"}
    # Rates of both curves that lie in both, against Yan et al. and HiFiC.
    rates = [0.11, 0.16, 0.17, 0.27, 0.28, 0.45]
    for other in (YAN, HIFIC):
        claim = f"mIoU of Proposed g2 > that of {other.name} at the same rate, "
        assert [name.removeprefix(claim) for name in found if name.startswith(claim)] == [
            f"{r:.4f} bpp" for r in rates
        ]
    ratios = [row for claim, row in found.items() if claim.startswith("MSE of g2 ≤ 2.2")]
    assert len(ratios) == 12 and all(row["measured"].endswith("= 2.150") for row in ratios)


def test_miou_is_interpolated_over_the_logarithm_of_the_rate(tmp_path: Path) -> None:
    for lmbda, rate, miou in ((0.001, 0.10, 10.0), (0.002, 0.40, 30.0)):
        streets_record(tmp_path / f"p{lmbda}", lmbda, False, "g2", rate, miou=miou)
    streets_record(tmp_path / "l", 0.001, True, "g2", 0.20, miou=20.1)
    checks = Drafted(tmp_path).checks()
    claim = "mIoU of Proposed g2 > that of Yan et al. 2021 at the same rate, 0.2000 bpp"
    # 0.2 is halfway from 0.1 to 0.4 by its logarithm.
    assert checks[claim] == {
        "claim": claim,
        "measured": "20.10 % (measured), 20.00 % (between 0.1000 and 0.4000 bpp)",
        "verdict": "holds",
    }
    streets_record(tmp_path / "l", 0.001, True, "g2", 0.20, miou=19.9)
    assert Drafted(tmp_path).checks()[claim]["verdict"] == "does not hold"


@pytest.mark.parametrize(
    ("rate", "values", "reason"),
    [
        (0.5, {"miou": 90.0}, "no rate lies within both curves, Proposed g2 0.5000 to 0.5000 and Yan et al. 2021"),
        (0.2, {}, "was tested without miou"),
    ],
)
def test_miou_is_never_extrapolated(tmp_path: Path, rate: float, values: dict[str, float], reason: str) -> None:
    for lmbda, other in ((0.001, 0.10), (0.002, 0.40)):
        streets_record(tmp_path / f"p{lmbda}", lmbda, False, "g2", other, miou=10.0)
    streets_record(tmp_path / "l", 0.001, True, "g2", rate, **values)
    draft = Drafted(tmp_path)
    (row,) = [row for claim, row in draft.checks().items() if claim.startswith("mIoU")]
    assert row["verdict"] == "n/a" and reason in draft.page


def test_miou_of_two_judges_is_not_compared(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    for lmbda in PLAIN:
        path = record_of(folder, lmbda, False, "g2")
        record = json.loads(path.read_text())
        record["protocols"]["miou"]["weights"] = "sha256 0123456789abcdef"
        path.write_text(json.dumps(record))
    draft = Drafted(folder)
    found = {claim: row["verdict"] for claim, row in draft.checks().items() if claim.startswith("mIoU")}
    yan = "mIoU of Proposed g2 > that of Yan et al. 2021 at the same rate"
    assert found.pop(yan) == "n/a" and not any(claim.startswith(yan) for claim in found)
    assert set(found.values()) == {"holds"}  # against the HiFiC-like codec, by the same judge
    reason = "the protocols of mIoU of Proposed g2 and Yan et al. 2021 differ: weights is None and 'sha256 0123456789"
    assert reason in draft.page


def test_claims_that_fail_say_so_with_numbers(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    record_of(folder, 0.0003, True, "g2", mse=2.21 * figures(True, "g1", "oasis", 0.11)["mse"], miou=1.0)
    for a in (0.3, 0.6):
        g1, g2 = 0.003, 0.005
        streets_record(folder / "map_oasis_0.0003", 0.0003, True, f"realism_{a}", 0.11, realism=a, mse=g2)
        assert g2 > 1.03 * (g1 + a * a * (g2 - g1))
    likely = 0.15
    likely_bytes = likely * WIDTH * HEIGHT / 8
    allowed = 0.01 * likely_bytes + 32
    size = [likely + 8 * (off / WIDTH / HEIGHT) for off in (allowed - 0.1, 0.0, -1.0, allowed + 0.1)]
    for decoder in ("g1", "g2"):
        values = figures(False, decoder, "patch", 0.16)
        rows = {"bpp": size, "bpp_likelihood": [likely] * COUNT}
        streets_record(folder / "none_patch_0.0006", 0.0006, False, decoder, 0.16, "patch", rows=rows, **values)
    found = Drafted(folder).checks()
    fails = {claim for claim, row in found.items() if row["verdict"] == "does not hold"}
    # mIoU of 1.0 at 0.11 bpp spoils the value there, and what is interpolated from there to 0.17.
    assert {claim for claim in fails if not claim.startswith("mIoU of Proposed g2 > that of ")} == {
        "MSE of g2 ≤ 2.2 x MSE of g1, λ = 0.0003 with the label map",
        "MSE(a) within 3 % of MSE_1 + a² (MSE_2 - MSE_1), λ = 0.0003 with the label map",
        SIZE,
    }
    assert "mIoU of Proposed g2 > that of Yan et al. 2021 at the same rate, 0.1100 bpp" in fails
    assert "mIoU of Proposed g2 > that of Yan et al. 2021 at the same rate, 0.4500 bpp" not in fails
    measured = found[SIZE]["measured"]
    assert measured.startswith(
        f"at worst {allowed + 0.1:.1f} of {allowed:.1f} bytes (scene_3.png, λ = 0.0006 without side information, p"
    )
    assert measured.endswith("1 of 48 files beyond")


def test_file_sizes_are_of_every_image_once_per_model(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    row = Drafted(folder).checks()[SIZE]
    off = 0.01 * WIDTH * HEIGHT / 8
    assert row["verdict"] == "holds" and row["measured"].startswith(f"at worst {off:.1f} of ")
    assert row["measured"].endswith("0 of 48 files beyond")
    path = next((folder / "none_oasis_0.0003" / "results").glob("*g1.json"))
    record = json.loads(path.read_text())
    del record["images"][2]["bpp_likelihood"]
    path.write_text(json.dumps(record))
    draft = Drafted(folder)
    assert draft.checks()[SIZE]["verdict"] == "n/a"
    assert "scene_2.png of none_oasis_0.0003/results/camvid-val-g1.json has no bpp_likelihood" in draft.page


def test_interpolation_against_the_law(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    g1, g2 = (figures(True, decoder, "oasis", 0.11)["mse"] for decoder in ("g1", "g2"))
    for a in (0.4, 0.7):
        mse = 1.01 * (g1 + a * a * (g2 - g1))
        run = folder / "map_oasis_0.0003"
        streets_record(run, 0.0003, True, f"realism_{a}", 0.11, realism=a, mse=mse, miou=30.0)
    draft = Drafted(folder)
    rows = draft.table("interpolation")
    assert [float(row["a"]) for row in rows] == [1, 0.7, 0.4, 0]
    for row in rows:
        a = float(row["a"])
        assert float(row["predicted"]) == pytest.approx(g1 + a * a * (g2 - g1))
        assert float(row["deviation [%]"]) == pytest.approx(0 if a in (0, 1) else 1, abs=1e-9)
    assert rows[1]["mIoU [%] ↑"] == "30.0" and rows[1]["FID (Inception features) ↓"] == "n/a"
    check = next(row for claim, row in draft.checks().items() if claim.startswith("MSE(a)"))
    assert check["measured"].startswith("1.00 % at a = ") and check["verdict"] == "holds"


def test_without_interpolations_the_page_says_so(tmp_path: Path) -> None:
    draft = Drafted(write_methods(tmp_path / "runs"))
    assert "No records of decoders between g1 and g2" in draft.page and "tradeoff" not in draft.shown


def test_cityscapes_has_the_first_authors_points_beside_ours(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for lmbda, rate in PLAIN.items():
        streets_record(folder / f"n{lmbda}", lmbda, False, "g1", rate, dataset="cityscapes-val", mse=0.0031)
    draft = Drafted(folder)
    rows = draft.table("stage1")
    assert [float(row["rate, logged [bit/pixel] ↓"]) for row in rows[:2]] == [0.02028, 0.03502]
    assert [float(row["MSE, logged ↓"]) for row in rows[:2]] == [0.004065, 0.002926]
    assert [row["MSE ↓"] for row in rows] == ["0.0031"] * 4 + ["n/a"] * 4
    assert [float(row["rate [bit/pixel] ↓"]) for row in rows[:4]] == list(PLAIN.values())
    assert "no record of Proposed g1 at λ = 0.0003" in draft.page
    draft.write("rates", tmp_path)
    svg = (tmp_path / "rates.svg").read_text()
    assert ">Baseline, logged<" in svg and ">Proposed g1, logged<" in svg and ">originals<" not in svg


class TestMethods:
    def test_baseline_is_taken_from_what_has_it(self, tmp_path: Path) -> None:
        streets_record(tmp_path / "a", 0.001, False, "g1", 0.10, "patch", mse=0.1)
        streets_record(tmp_path / "b", 0.002, False, "g1", 0.20, "patch", mse=0.2)
        streets_record(tmp_path / "c", 0.002, False, "g1", 0.21, "oasis", mse=0.3)
        streets_record(tmp_path / "d", 0.003, False, "g1", 0.30, None, mse=0.4)
        (models,) = sort_models(read_results([tmp_path]).results)
        assert [result.value("mse") for result in models.of(BASELINE)] == [0.1, 0.3, 0.4]
        assert not models.remarks and not models.of(PROPOSED_2)

    def test_what_is_left_out_is_said(self, tmp_path: Path) -> None:
        streets_record(tmp_path / "a", 0.001, True, "g2", 0.10, "oasis", miou=1.0)
        streets_record(tmp_path / "b", 0.001, True, "g2", 0.10, "patch", miou=2.0)
        streets_record(tmp_path / "c", 0.001, True, "g1", 0.10, None, miou=3.0)
        streets_record(tmp_path / "d", 0.001, False, "g2", 0.10, "wasserstein", miou=4.0)
        (models,) = sort_models(read_results([tmp_path]).results)
        assert [result.value("miou") for result in models.results] == [1.0]
        told = "\n".join(models.remarks)
        assert "Left out, as no method of the paper: λ = 0.001 with the label map, patch critic" in told
        assert "critic wasserstein (d/results/" in told
        assert "as another model of that λ has both stages: λ = 0.001 with the label map, no critic (c/" in told

    def test_two_models_of_one_point_are_refused(self, tmp_path: Path) -> None:
        for width in (32, 128):
            streets_record(tmp_path / f"w{width}", 0.001, False, "g1", 0.1, mse=0.05, training={"N": width})
        with pytest.raises(ReportError, match=r"w128.* and .*w32.* are of two models of λ = 0.001 without side"):
            sort_models(read_results([tmp_path]).results)

    def test_models_table_has_what_differs(self, tmp_path: Path) -> None:
        draft = Drafted(write_methods(tmp_path / "runs", three(PLAIN), three(LABELLED)))
        rows = draft.table("models")
        assert [(row["side information"], row["critic"]) for row in rows[::3]] == [
            ("none", "oasis"),
            ("none", "patch"),
            ("label map", "oasis"),
        ]
        assert rows[-1]["trained with"] == "classes 12, critic.critic oasis"
        assert "All were trained with N 48, stage1_epochs 100, noise_dim 64, critic.width 32." in draft.page
        assert all(float(a["λ"]) < float(b["λ"]) for group in (rows[:3], rows[3:6]) for a, b in pairwise(group))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": {"decoder": "g1", "side_information": "none"}}, "'setting' of the record has no 'lambda'"),
        ({"setting": {"decoder": "g1", "lambda": 0, "side_information": "none"}}, "setting.lambda is 0; it should"),
        ({"setting": {"decoder": "g1", "lambda": "x", "side_information": "none"}}, "setting.lambda is 'x'"),
        ({"setting": {"decoder": "g1", "lambda": 1, "side_information": "label"}}, "is 'label', not one of none"),
        ({"decoder": {"name": "g1", "realism": math.inf}}, "decoder.realism is inf"),
        ({"training": None}, "'training' of the record is None"),
        ({"training": {"critic": "oasis"}}, "training.critic is 'oasis'; it should be an object"),
    ],
)
def test_damaged_records_name_the_fault(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = streets_record(tmp_path / "run", 0.001, False, "g1", 0.1, mse=0.05)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ReportError, match=message) as error:
        read_results([tmp_path])
    assert str(path) in str(error.value)
