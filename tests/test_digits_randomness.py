"""Fig. 10 of the digits report: the entropy of noise, the bound, and the study."""

import math
from pathlib import Path

import pytest
from scipy.stats import norm

from lightning_modules.reports.digits.randomness import SOURCE_BITS, dimensions_needed, noise_entropy
from tests.digits_record_helpers import FID, PLAIN, Drafted, figures, write_methods, write_study


def test_noise_entropy_is_that_of_rounding_to_float32() -> None:
    # Floats in [2^e, 2^(e+1)) are 2^(e-23) apart, so H = h(N) + sum over e of P(e) (23 - e).
    spread = sum(2 * (norm.sf(2.0**e) - norm.sf(2.0 ** (e + 1))) * (23 - e) for e in range(-120, 5))
    exact = 0.5 * math.log2(2 * math.pi * math.e) + spread
    assert exact == pytest.approx(26.464, abs=0.0005)
    assert noise_entropy() == pytest.approx(exact, abs=0.004)
    assert noise_entropy(10**5, seed=3) == noise_entropy(10**5, seed=3) != noise_entropy(10**5, seed=4)
    with pytest.raises(ValueError, match="samples is 0"):
        noise_entropy(0)


@pytest.mark.parametrize(("code_bits", "dimensions"), [(4, 42), (32, 41)])
def test_dimensions_of_the_bound(code_bits: int, dimensions: int) -> None:
    for h in (26.464, 26.55):
        assert dimensions_needed(SOURCE_BITS, code_bits, h) == dimensions
        assert (dimensions - 1) * h < SOURCE_BITS - (code_bits + 1) <= dimensions * h
    assert dimensions_needed(10.0, 32, 26.0) == 0
    with pytest.raises(ValueError, match="h is 0"):
        dimensions_needed(SOURCE_BITS, 4, 0)


def test_randomness_study_beside_the_paper(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    write_study(folder)
    draft = Drafted(folder)
    rows = draft.table("randomness")
    # The baseline's own g2, with noise in 96 dimensions, is of the same code and trained alike.
    assert [(int(r["R0 [bits]"]), int(r["noise dimensions"])) for r in rows] == [
        *((4, k) for k in (0, 8, 42, 84, 96)),
        *((32, k) for k in (0, 8, 42, 84)),
    ]
    assert [r["reaches the bound"] for r in rows][:4] == ["no", "no", "yes", "yes"]
    assert float(rows[0]["log₂ H(W)"]) == 0
    assert float(rows[1]["log₂ H(W)"]) == pytest.approx(math.log2(8 * 26.464), abs=0.001)
    column = f"FID ({FID[4:]} features) ↓"
    printed = draft.table("randomness_paper")
    assert [float(row["FID, paper ↓"]) for row in printed] == [238.77, 18.76, 23.23, 19.25]
    assert [int(row["noise dimensions, ours"]) for row in printed] == [0, 42, 0, 42]
    assert [float(row[column]) for row in printed] == pytest.approx([204, 200 / 43 + 4, 232, 200 / 43 + 32])
    bounds = draft.table("randomness_bound")
    assert [(float(r["H(X) - (R0 + 1) [bits]"]), int(r["dimensions of 26.55 bits"])) for r in bounds] == [
        (pytest.approx(1100.44), 42),
        (pytest.approx(1072.44), 41),
    ]
    # The study does not get into the curves: no point at 32 bits, and the 4-bit g2 is the one with all its noise.
    rates = [row for row in draft.table("rates") if row["method"] == "Yan et al. 2021"]
    assert [int(row["code bits"]) for row in rates] == list(PLAIN)
    assert float(rates[0][column]) == pytest.approx(figures("none", "g2", 4.0)["fid"])


def test_study_takes_only_models_that_were_trained_alike(tmp_path: Path) -> None:
    folder = write_methods(tmp_path / "runs")
    write_study(folder, training={"stage1_epochs": 5})
    draft = Drafted(folder)
    rows = draft.table("randomness")
    assert [int(r["noise dimensions"]) for r in rows] == [0, 8, 42, 84] * 2
    assert "trained with other settings than the rest: the 4-bit code without side information with 96" in draft.page


def test_no_study_still_has_the_bound(tmp_path: Path) -> None:
    draft = Drafted(write_methods(tmp_path / "runs"))
    assert "No records of models without side information that differ in noise_dim." in draft.page
    assert "no record with 32 code bits and a noise_dim of at least 41" in draft.page
    assert "at most the entropy of its seed" in draft.page
