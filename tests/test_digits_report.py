"""Tables and claims of the digits report, from records whose figures are known."""

import json
import math
from pathlib import Path

import pytest

from lightning_modules.reports.digits.models import METHODS
from tests.digits_record_helpers import (
    BASE,
    CONFID,
    COUNT,
    LABELLED,
    OFFSET,
    PLAIN,
    SLOPE,
    Drafted,
    digits_record,
    figures,
    write_methods,
    write_realism,
    write_swapped,
)


def test_bd_values_of_known_curves_over_the_common_range(tmp_path: Path) -> None:
    draft = Drafted(write_methods(tmp_path / "runs"))
    # Every curve is the baseline's plus OFFSET + SLOPE x: the mean over [ln 4.29, ln 19] is that at the middle.
    middle = (math.log(4.29) + math.log(19.0)) / 2
    rows = {row["method"]: row for row in draft.table("table1")}
    assert list(rows) == [method.name for method in METHODS]
    names = {
        "mse": "BD-MSE ↓",
        "confid": f"BD-ConFID ({CONFID[7:]} features) ↓",
        "accuracy": "BD-accuracy [points] ↑",
    }
    names["fid"] = names["confid"].replace("Con", "")
    for method in METHODS[1:]:
        key = ("label" if method.labelled else "none", method.decoder)
        for name, column in names.items():
            scale = 1e-4 if name == "mse" else 1.0
            expected = OFFSET[key][name] + SLOPE[key] * scale * middle
            assert float(rows[method.name][column]) == pytest.approx(expected, rel=1e-6, abs=1e-9), (key, name)
            # Pchip goes through the points and so comes near.
            pchip = {row["method"]: row for row in draft.table("table1_pchip")}
            assert float(pchip[method.name][column]) == pytest.approx(expected, rel=0.05)
    assert {float(rows["Baseline"][column]) for column in names.values()} == {0.0}
    printed = rows["Proposed g2"]
    assert [float(printed[c]) for c in printed if "paper" in c] == [0.0227, -62.15, -50.75, 31.19]
    assert "Means over 4.29 to 19.00 bits per image." in draft.page
    assert "| Yan et al. 2021 | " in draft.page and "−48.99" in draft.page


def test_a_narrower_method_narrows_the_range_of_all(tmp_path: Path) -> None:
    # Without the first rate of g1 with the digit, the common range begins at 7.2 bits, for Yan et al. too.
    draft = Drafted(write_methods(tmp_path / "runs", leave_out=("label-1-g1",)))
    middle = (math.log(7.2) + math.log(19.0)) / 2
    rows = {row["method"]: row for row in draft.table("table1")}
    column = f"BD-ConFID ({CONFID[7:]} features) ↓"
    assert float(rows["Yan et al. 2021"][column]) == pytest.approx(-40 + 2 * middle, rel=1e-6)
    assert "Means over 7.20 to 19.00 bits per image." in draft.page


def test_rates_table_has_rate_stream_gap_and_figures(tmp_path: Path) -> None:
    draft = Drafted(write_methods(tmp_path / "runs", accuracy_original=99.25))
    rows = draft.table("rates")
    assert [row["method"] for row in rows] == [method.name for method in METHODS for _ in range(5)]
    assert [int(row["code bits"]) for row in rows[15:]] == list(LABELLED)
    row, x = rows[15], math.log(4.29)
    assert float(row["rate [bits] ↓"]) == 4.29
    assert float(row["stream [bits] ↓"]) == pytest.approx(1.004 * 4.29)
    assert float(row["gap [%] ↓"]) == pytest.approx(0.4)
    assert float(row["MSE ↓"]) == pytest.approx(BASE["mse"](x) + 0.019 - 1e-4 * x)
    assert float(row["accuracy [%] ↑"]) == pytest.approx(BASE["accuracy"](x) + 2 - x)
    assert row["FID (digits_resnet18 features) ↓"] and row["ConFID (digits_resnet18 features) ↓"]
    assert "The classifier is right on 99.25 % of the originals." in draft.page


def test_two_extractors_have_columns_of_their_own(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    for code_bits, rate in PLAIN.items():
        for decoder, offset in (("g1", 0.0), ("g2", -7.0)):
            values = figures("none", decoder, rate)
            inception = {"confid_inception": 2 * values["confid"] + offset, "fid_inception": 30.0 + offset}
            floor = {"confid_floor_digits_resnet18": 3.25}
            digits_record(
                folder / f"none_{code_bits}", code_bits, False, decoder, rate, **values, **inception, **floor
            )
    draft = Drafted(folder)
    rows = {row["method"]: row for row in draft.table("table1")}
    columns = [name for name in rows["Baseline"] if "ConFID" in name or "FID" in name]
    assert columns == [
        f"BD-{base}{rest} ↓"
        for base in ("ConFID", "FID")
        for rest in (" (Inception features)", " (digits_resnet18 features)", ", paper")
    ]
    assert float(rows["Yan et al. 2021"]["BD-FID (Inception features) ↓"]) == pytest.approx(-7)
    assert rows["Proposed g2"]["BD-FID (Inception features) ↓"] == "n/a"
    assert "no record of Proposed g2 has FID (Inception features)" in draft.page
    assert "random halves of the originals of each class, at half the images, is 3.25" in draft.page
    assert f"ConFID (Inception features) is over {COUNT} images of all classes." in draft.page
    # Where one method lacks a figure, the range is that of the others: here that of the two.
    assert "FID (Inception features): means over 4.00 to 20.00 bits per image." in draft.page


def test_missing_points_are_not_available_with_the_reason(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs", leave_out=("label-16-g2", "label-12-g2"))
    digits_record(
        *(folder / "label_8", 8, True, "g1", 11.1),
        **{"mse": 0.04, "accuracy": 80.0, "not_available": {CONFID: "classes [3] have fewer than 2 images"}},
    )
    draft = Drafted(folder)
    rows = {row["method"]: row for row in draft.table("table1")}
    assert rows["Proposed g2"]["BD-MSE ↓"] == "n/a" != rows["Yan et al. 2021"]["BD-MSE ↓"]
    assert "Proposed g2 has 3 points with this figure; cubic needs 4" in draft.page
    assert "classes [3] have fewer than 2 images" in draft.page
    order = next(row for claim, row in draft.checks().items() if claim.startswith("BD-ConFID"))
    assert order["verdict"] == "n/a"


def test_without_a_baseline_there_are_no_differences(tmp_path: Path) -> None:
    for code_bits, rate in LABELLED.items():
        digits_record(tmp_path / f"r{code_bits}", code_bits, True, "g1", rate, **figures("label", "g1", rate))
    draft = Drafted(tmp_path)
    assert "[1] no records of Baseline" in draft.page and "No records of Yan et al. 2021." in draft.page


def test_claims_hold_for_records_that_meet_them(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    ends = figures("label", "g1", 4.29) | {"accuracy": 99.0}
    digits_record(folder / "label_1", 1, True, "g2", 4.29, **ends | {"mse": 2.05 * ends["mse"]})
    digits_record(folder / "label_1", 1, True, "realism_0.5", 4.29, 0.5, mse=1.2625 * ends["mse"] * 1.02)
    write_swapped(folder, [51.0] * 10)
    draft = Drafted(folder)
    found = draft.checks()
    assert {row["verdict"] for row in found.values()} == {"holds"}
    assert found["MSE of g2 ≤ 2.1 x MSE of g1, the 1-bit code with the digit"]["measured"].endswith("= 2.050")
    assert found["accuracy of proposed g2 at its lowest rate > 95 %"]["measured"] == "99.00 %"
    deviation = next(row for claim, row in found.items() if claim.startswith("MSE(a)"))
    assert deviation["measured"].startswith("2.00 % at a = 0.5")
    assert len([claim for claim in found if claim.startswith("MSE of g2")]) == 10


@pytest.mark.parametrize(("code_bits", "compared"), [(4, False), (8, True)])
def test_accuracies_of_two_judges_are_not_compared(tmp_path: Path, code_bits: int, compared: bool) -> None:
    folder = write_methods(tmp_path / "runs")
    (path,) = folder.glob(f"none_{code_bits}/results/*g2.json")  # of the lowest rate and of another
    record = json.loads(path.read_text())
    record["protocols"]["accuracy"]["weights"] = "sha256 0123456789abcdef"
    path.write_text(json.dumps(record))
    draft = Drafted(folder)
    row = draft.checks()["accuracy of proposed g2 > that of Yan et al., both at their lowest rate"]
    reason = "the protocols of accuracy of Proposed g2 and Yan et al. 2021 differ: weights is None and 'sha256 0123"
    assert (row["verdict"] == "holds") is compared
    assert (row["verdict"] == "n/a" and reason in draft.page) is not compared


def test_claims_that_fail_say_so_with_numbers(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    write_realism(folder, error=0.05)
    write_swapped(folder, [49.0] * 10)
    g1 = figures("label", "g1", 4.29)
    digits_record(folder / "label_1", 1, True, "g2", 4.29, **g1 | {"mse": 2.11 * g1["mse"], "confid": 999.0})
    draft = Drafted(folder)
    found = draft.checks()
    fails = {claim for claim, row in found.items() if row["verdict"] != "holds"}
    assert fails == {
        "BD-ConFID (digits_resnet18 features): proposed g2 < Yan et al. < 0 < proposed g1",
        "MSE of g2 ≤ 2.1 x MSE of g1, the 1-bit code with the digit",
        "accuracy of proposed g2 at its lowest rate > 95 %",
        "MSE(a) within 3 % of MSE_1 + a² (MSE_2 - MSE_1), the 1-bit code with the digit",
        "another label gives the other digit in most cases, the 1-bit code with the digit",
    }


def test_interpolation_beside_the_paper(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    write_realism(folder, error=0.01)
    digits_record(folder / "beta_0.005", 1, True, "joint", 4.31, beta=0.005, noise_dim=89, mse=0.05, confid=70.0)
    draft = Drafted(folder)
    rows = draft.table("table3_interpolation")
    assert [float(row["a"]) for row in rows] == [1, 0.9, 0.8, 0.6, 0.4, 0.2, 0]
    g1, g2 = (figures("label", decoder, 4.29)["mse"] for decoder in ("g1", "g2"))
    for row in rows:
        a = float(row["a"])
        assert float(row["predicted"]) == pytest.approx(g1 + a**2 * (g2 - g1))
        assert float(row["deviation [%]"]) == pytest.approx(0 if a in (0, 1) else 1, abs=1e-9)
    assert [float(row["MSE, paper ↓"]) for row in rows] == [0.0821, 0.0741, 0.0668, 0.0553, 0.0469, 0.0422, 0.0405]
    assert [float(row["accuracy, paper [%] ↑"]) for row in rows][:2] == pytest.approx([97.54, 97.78])
    # The rule that assigns the paper's rows their weights.
    for row in rows:
        predicted = 0.0405 + float(row["a"]) ** 2 * (0.0821 - 0.0405)
        assert float(row["MSE, paper ↓"]) == pytest.approx(predicted, abs=0.00035)
    joint = draft.table("table3_joint")
    assert [(float(r["β"]), float(r["rate [bits] ↓"]), float(r["MSE ↓"])) for r in joint] == [(0.005, 4.31, 0.05)]
    assert joint[0]["accuracy [%] ↑"] == "n/a" and "was tested without accuracy" in draft.page
    printed = draft.table("table3_joint_paper")
    assert [float(row["rate [bits] ↓"]) for row in printed] == pytest.approx([4.35, 4.30, 4.32, 4.33, 4.26, 4.29])
    draft.write("tradeoff", tmp_path)
    svg = (tmp_path / "tradeoff.svg").read_text()
    for label in ("interpolation", "trained jointly, β", "interpolation, paper", "trained jointly, paper"):
        assert f">{label}<" in svg


def test_realism_steps_that_are_missing(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs", leave_out=("label-1-g2",))
    digits_record(folder / "label_1", 1, True, "realism_0.4", 4.29, 0.4, mse=0.05)
    draft = Drafted(folder)
    rows = {float(row["a"]): row for row in draft.table("table3_interpolation")}
    assert rows[0.4]["MSE ↓"] == "0.05" and rows[0.4]["predicted"] == "n/a" and rows[0.9]["MSE ↓"] == "n/a"
    assert "no record of g2" in draft.page and "no record of realism_0.9" in draft.page
