"""Bjøntegaard deltas against the package called directly, against numeric integration, and where there are none."""

import math
import warnings

import bjontegaard
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import PchipInterpolator

import callbacks as cb
from callbacks.metrics.value import NotAvailable
from lightning_modules.reports.bd import bd_metric, bd_rate, bd_table
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve, Figure, Point
from tests.record_helpers import make_curves, make_record, sweep

PSNR = Figure("psnr", "PSNR", "dB", True)
LPIPS = Figure("lpips", "LPIPS", "", False)

A_RATES, A_PSNR = [0.12, 0.25, 0.5, 0.9, 1.6], [27.1, 29.6, 32.3, 34.9, 37.8]
B_RATES, B_PSNR = [0.1, 0.22, 0.41, 0.8, 1.3, 2.0], [27.4, 30.1, 32.2, 35.6, 37.6, 39.9]
A_LPIPS, B_LPIPS = [0.42, 0.31, 0.2, 0.12, 0.05], [0.37, 0.28, 0.21, 0.1, 0.06, 0.03]


def curve(codec, rates, dataset="kodak", **columns) -> Curve:
    """A published curve, with points in no order."""
    points = [
        Point(
            codec=codec,
            dataset=dataset,
            label=f"point {i + 1}",
            bpp=rate,
            figures={"bpp": rate, **{name: values[i] for name, values in columns.items() if values[i] is not None}},
            source="a table",
            kind="printed",
        )
        for i, rate in enumerate(rates)
    ]
    return Curve(codec, dataset, "printed", tuple(points[1::2] + points[::2]))


ANCHOR = curve("a", A_RATES, psnr=A_PSNR, lpips=A_LPIPS)
TEST = curve("b", B_RATES, psnr=B_PSNR, lpips=B_LPIPS)


def package(function, method, a_rates, a_values, b_rates, b_values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(a_rates, a_values, b_rates, b_values, method, require_matching_points=False, min_overlap=0)


def interpolate(x, y, method):
    """A cubic by the normal equations, or scipy's pchip."""
    if method == "pchip":
        return PchipInterpolator(x, y)
    middle, half = (x[0] + x[-1]) / 2, (x[-1] - x[0]) / 2
    powers = np.vander((np.array(x) - middle) / half, 4)
    weights = np.linalg.solve(powers.T @ powers, powers.T @ np.array(y))
    return lambda at: np.vander((np.atleast_1d(at) - middle) / half, 4) @ weights


def average_gap(a_x, a_y, b_x, b_y, method, low, high):
    """Mean of b - a between low and high, by adaptive quadrature."""
    a, b = interpolate(a_x, a_y, method), interpolate(b_x, b_y, method)
    knots = [x for x in (*a_x, *b_x) if low < x < high]
    integral, _ = quad(lambda x: float(np.squeeze(b(x) - a(x))), low, high, points=knots, epsabs=1e-12, limit=200)
    return integral / (high - low)


@pytest.mark.parametrize("method", ["cubic", "pchip"])
class TestValues:
    def test_metric(self, method):
        delta = bd_metric(ANCHOR, TEST, PSNR, method)
        assert delta.value == package(bjontegaard.bd_psnr, method, A_RATES, A_PSNR, B_RATES, B_PSNR)
        low, high = math.log(0.12), math.log(1.6)
        expected = average_gap(np.log(A_RATES), A_PSNR, np.log(B_RATES), B_PSNR, method, low, high)
        assert delta.value == pytest.approx(expected, rel=1e-9)
        assert (delta.rates, delta.qualities, delta.reason) == ((0.12, 1.6), (27.4, 37.8), "")
        assert delta.overlap == pytest.approx(math.log(1.6 / 0.12) / math.log(2.0 / 0.1))

    def test_rate(self, method):
        delta = bd_rate(ANCHOR, TEST, PSNR, method)
        assert delta.value == package(bjontegaard.bd_rate, method, A_RATES, A_PSNR, B_RATES, B_PSNR)
        mean = average_gap(A_PSNR, np.log(A_RATES), B_PSNR, np.log(B_RATES), method, 27.4, 37.8)
        assert delta.value == pytest.approx(100 * math.expm1(mean), rel=1e-9)
        assert delta.value < 0  # b is the better one
        assert (delta.rates, delta.qualities) == ((0.12, 1.6), (27.4, 37.8))

    def test_lower_is_better(self, method):
        metric = bd_metric(ANCHOR, TEST, LPIPS, method)
        assert metric.value == package(bjontegaard.bd_psnr, method, A_RATES, A_LPIPS, B_RATES, B_LPIPS)
        rate = bd_rate(ANCHOR, TEST, LPIPS, method)
        a_x, b_x = -np.array(A_LPIPS), -np.array(B_LPIPS)
        assert rate.value == package(bjontegaard.bd_rate, method, A_RATES, a_x, B_RATES, b_x)
        mean = average_gap(a_x, np.log(A_RATES), b_x, np.log(B_RATES), method, -0.37, -0.05)
        assert rate.value == pytest.approx(100 * math.expm1(mean), rel=1e-9)
        assert metric.value < 0 and rate.value < 0
        assert rate.qualities == (0.05, 0.37)

    def test_given_range(self, method):
        delta = bd_metric(ANCHOR, TEST, PSNR, method, rates=(0.2, 1.0))
        low, high = math.log(0.2), math.log(1.0)
        expected = average_gap(np.log(A_RATES), A_PSNR, np.log(B_RATES), B_PSNR, method, low, high)
        assert delta.value == pytest.approx(expected, rel=1e-9) and delta.rates == (0.2, 1.0)
        whole = bd_metric(ANCHOR, TEST, PSNR, method)
        assert bd_metric(ANCHOR, TEST, PSNR, method, whole.rates).value == pytest.approx(whole.value, rel=1e-12)
        for figure, a, b, used in ((PSNR, A_PSNR, B_PSNR, (28.0, 36.0)), (LPIPS, A_LPIPS, B_LPIPS, (0.1, 0.3))):
            sign = 1 if figure is PSNR else -1
            ends = sorted(sign * value for value in used)
            mean = average_gap(
                sign * np.array(a), np.log(A_RATES), sign * np.array(b), np.log(B_RATES), method, *ends
            )
            rate = bd_rate(ANCHOR, TEST, figure, method, qualities=used)
            assert rate.value == pytest.approx(100 * math.expm1(mean), rel=1e-9) and rate.qualities == used

    def test_identical_curves(self, method):
        twin = Curve("twin", "kodak", "printed", ANCHOR.points)
        for figure in (PSNR, LPIPS):
            assert bd_metric(ANCHOR, twin, figure, method).value == 0
            assert bd_rate(ANCHOR, twin, figure, method).value == 0

    def test_half_the_rate(self, method):
        half = curve("half", [rate / 2 for rate in A_RATES], psnr=A_PSNR)
        assert bd_rate(ANCHOR, half, PSNR, method).value == pytest.approx(-50, abs=1e-9)

    def test_overlap_is_not_warned_of(self, method):
        far = curve("far", [1.3, 2, 3, 4], psnr=[36.0, 38.5, 40.1, 42.0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert bd_metric(ANCHOR, far, PSNR, method).overlap < 0.1


@pytest.mark.parametrize("method", ["cubic", "pchip"])
class TestNotAvailable:
    def check(self, delta, message):
        assert delta.value is None and delta.overlap is None
        assert message in delta.reason

    def test_no_common_rates(self, method):
        far = curve("far", [3.0, 4, 5, 6], psnr=[36.0, 38, 40, 42])
        reason = "no common rates (a 0.12 to 1.6, far 3 to 6 bit/pixel)"
        delta = bd_metric(ANCHOR, far, PSNR, method)
        self.check(delta, reason)
        assert delta.rates is None and delta.qualities == (36.0, 37.8)
        assert bd_rate(ANCHOR, far, PSNR, method).value is not None  # which needs common PSNR only

    def test_touching_rates(self, method):
        touching = curve("next", [1.6, 2, 3, 4], psnr=[37.8, 38, 40, 42])
        self.check(bd_metric(ANCHOR, touching, PSNR, method), "no common rates")
        self.check(bd_rate(ANCHOR, touching, PSNR, method), "no common PSNR")

    def test_no_common_quality(self, method):
        worse = curve("worse", A_RATES, psnr=[10.0, 11, 12, 13, 14])
        self.check(bd_rate(ANCHOR, worse, PSNR, method), "no common PSNR (a 27.1 to 37.8, worse 10 to 14 dB)")
        assert bd_metric(ANCHOR, worse, PSNR, method).value < -15

    def test_few_points(self, method):
        needed = {"cubic": 4, "pchip": 3}[method]
        for count in (0, 1, needed - 1):
            few = curve("few", A_RATES[:count], psnr=A_PSNR[:count])
            word = "point" if count == 1 else "points"
            for pair in ((ANCHOR, few), (few, ANCHOR)):
                message = f"few has {count} {word} with this figure; {method} needs {needed}"
                self.check(bd_metric(*pair, PSNR, method), message)
                self.check(bd_rate(*pair, PSNR, method), message)
        enough = curve("few", B_RATES[:needed], psnr=B_PSNR[:needed])
        assert bd_metric(ANCHOR, enough, PSNR, method).value is not None
        gaps = curve("gaps", A_RATES, psnr=[*A_PSNR[: needed - 1], *[None] * (6 - needed)])
        self.check(bd_metric(ANCHOR, gaps, PSNR, method), f"gaps has {needed - 1} points")

    def test_not_monotone(self, method):
        dip = curve("dip", A_RATES, psnr=[27.0, 30.0, 29.9, 34, 37], lpips=[0.4, 0.3, 0.3, 0.2, 0.1])
        message = "dip is not monotone: PSNR does not improve from point 2 to point 3"
        self.check(bd_rate(ANCHOR, dip, PSNR, method), message)
        self.check(bd_rate(ANCHOR, dip, LPIPS, method), "dip is not monotone: LPIPS does not improve")
        expected = package(bjontegaard.bd_psnr, method, A_RATES, A_PSNR, A_RATES, [27.0, 30.0, 29.9, 34, 37])
        assert bd_metric(ANCHOR, dip, PSNR, method).value == expected

    def test_equal_rates(self, method):
        twice = curve("twice", [0.1, 0.5, 0.5, 0.9, 1.2], psnr=[27.0, 30, 31, 34, 37])
        self.check(
            bd_metric(ANCHOR, twice, PSNR, method), "twice has two points of 0.5 bit/pixel, point 2 and point 3"
        )

    def test_outside(self, method):
        self.check(
            bd_metric(ANCHOR, TEST, PSNR, method, rates=(0.1, 1.0)), "rates 0.1 to 1 are not within both curves"
        )
        self.check(bd_rate(ANCHOR, TEST, PSNR, method, qualities=(30.0, 39.0)), "PSNR 30 to 39 are not within both")
        self.check(bd_metric(ANCHOR, TEST, PSNR, method, rates=(1.0, 0.5)), "rates 1 to 0.5 are not within")

    def test_no_direction(self, method):
        neither = Figure("psnr", "PSNR", "dB", None)
        self.check(bd_rate(ANCHOR, TEST, neither, method), "PSNR has no direction")

    def test_other_dataset(self, method):
        clic = curve("b", B_RATES, dataset="clic", psnr=B_PSNR)
        self.check(bd_metric(ANCHOR, clic, PSNR, method), "a was measured on kodak, b on clic")

    def test_explosion(self, method):
        """A difference of rates beyond float64 is not written as infinity."""
        steep = curve("steep", [1e-300, 1e-299, 1e-298, 1e-297], psnr=[27.0, 28, 29, 30])
        flat = curve("flat", [1e300, 1e301, 1e302, 1e303], psnr=[27.0, 28, 29, 30])
        self.check(bd_rate(steep, flat, PSNR, method), "gives inf")


def test_undetermined_cubic():
    """Points that are one point but for rounding: least squares has a solution, which means nothing."""
    close = curve("close", [2.0 + i * 1e-13 for i in range(4)], psnr=[30.0, 30.1, 30.2, 30.3])
    delta = bd_metric(close, close, PSNR, "cubic")
    assert delta.value is None and "too close together to determine a cubic" in delta.reason


class TestComparability:
    def test_protocols(self, tmp_path):
        def lpips(pretrained):
            return {"lpips": cb.Lpips(pretrained=pretrained)}

        rates = [0.1, 0.2, 0.4, 0.8]
        figures = {"psnr": [28.0, 30.0, 32.0, 34.0], "lpips": [0.4, 0.3, 0.2, 0.1]}
        one, other, _ = make_curves(
            tmp_path,
            *sweep("a", rates, metrics=lpips(True), **figures),
            *sweep("b", rates, metrics=lpips(False), **figures),
            *sweep("c", rates, metrics=lpips(True), **figures),
        )
        assert bd_metric(one, other, PSNR).value == pytest.approx(0, abs=1e-12)
        for delta in (bd_metric(one, other, LPIPS), bd_rate(one, other, LPIPS)):
            assert delta.value is None and "the protocols of LPIPS of a and b differ: backbone" in delta.reason

    def test_results_in_a_protocol(self, tmp_path):
        """ConFID's protocol lists each class's FID beside its samples, mIoU's each class's: only the samples make
        figures comparable.
        """
        records = {}
        for codec, samples in (("a", 900), ("b", 900), ("c", 901)):
            records[codec] = sweep(codec, [0.1, 0.2, 0.4, 0.8], psnr=[28.0, 30, 32, 34])
            for i, record in enumerate(records[codec]):
                record["protocols"]["psnr"]["per_class"] = {"0": {"fid": ord(codec) + i, "samples": samples}}
                record["protocols"]["psnr"]["iou_per_class"] = {"road": ord(codec) + i}
        a, b, c = make_curves(tmp_path, *records["a"], *records["b"], *records["c"])
        assert bd_metric(a, b, PSNR).reason == ""
        assert "per_class" in bd_metric(a, c, PSNR).reason

    def test_protocols_within_a_curve(self, tmp_path):
        records = sweep("a", [0.1, 0.2, 0.4, 0.8], psnr=[28.0, 30, 32, 34])
        records[2]["protocols"]["psnr"]["images"] = "float RGB"
        (one,) = make_curves(tmp_path, *records)
        assert "images is '8-bit RGB' and 'float RGB'" in bd_metric(one, one, PSNR).reason

    def test_other_images_or_fewer(self, tmp_path):
        rates, psnr = [0.1, 0.2, 0.4, 0.8], [28.0, 30.0, 32.0, 34.0]
        one, more, partly = make_curves(
            tmp_path,
            *sweep("a", rates, psnr=psnr),
            *[make_record("b", 0.1 * i, bpp=rates[i], count=4, psnr=psnr[i]) for i in range(4)],
            *[make_record("c", 0.1 * i, bpp=rates[i], psnr=[p, p, NotAvailable("x")]) for i, p in enumerate(psnr)],
        )
        assert "different images" in bd_metric(one, more, PSNR).reason
        assert "could not be measured on the same images" in bd_metric(one, partly, PSNR).reason
        assert bd_metric(partly, partly, PSNR).value == 0

    def test_published_beside_measured(self, tmp_path):
        (measured,) = make_curves(tmp_path, *sweep("a", A_RATES, psnr=A_PSNR))
        expected = package(bjontegaard.bd_psnr, "cubic", A_RATES, A_PSNR, B_RATES, B_PSNR)
        assert bd_metric(measured, TEST, PSNR).value == pytest.approx(expected)


class TestTable:
    third = curve("c", [0.3, 0.45, 0.7, 1.0], psnr=[30.0, 31.8, 33.9, 35.4])
    point = curve("one", [0.4], psnr=[33.0])
    other = curve("other", [0.4], lpips=[0.2])

    def test_pairs(self):
        table = bd_table([TEST, ANCHOR, self.third, self.point, self.other], PSNR, "a")
        assert [row.codec for row in table.rows] == ["b", "c", "one"]
        assert (table.dataset, table.anchor, table.methods) == ("kodak", "a", ("cubic", "pchip"))
        for row, test in zip(table.rows, (TEST, self.third, self.point), strict=True):
            for method in table.methods:
                assert row.metric[method] == bd_metric(ANCHOR, test, PSNR, method)
                assert row.rate[method] == bd_rate(ANCHOR, test, PSNR, method)

    def test_common_range(self):
        """The point has no BD value, so it does not narrow the range either."""
        table = bd_table([ANCHOR, TEST, self.third, self.point], PSNR, "a", common_range=True)
        b, c, point = table.rows
        assert b.metric["cubic"] == bd_metric(ANCHOR, TEST, PSNR, "cubic", (0.3, 1.0))
        assert b.metric["cubic"].rates == c.metric["cubic"].rates == (0.3, 1.0)
        assert b.rate["pchip"] == bd_rate(ANCHOR, TEST, PSNR, "pchip", (30.0, 35.4))
        assert point.metric["cubic"].value is None and "needs 4" in point.metric["cubic"].reason

    def test_no_common_range(self):
        low = curve("low", [0.12, 0.15, 0.2, 0.25], psnr=[27.0, 28, 29, 29.9])
        high = curve("high", [0.5, 0.7, 1.0, 1.2], psnr=[32.0, 34, 35, 36])
        table = bd_table([ANCHOR, low, high], PSNR, "a", common_range=True)
        for row in table.rows:
            assert row.metric["cubic"].value is None
            assert "the 3 curves have no common range of rates" in row.metric["cubic"].reason
        assert all(row.metric["cubic"].value is not None for row in bd_table([ANCHOR, low, high], PSNR, "a").rows)

    def test_wrong_arguments(self):
        with pytest.raises(ReportError, match=r"no curve is called 'vtm'.*there are: a, b"):
            bd_table([ANCHOR, TEST], PSNR, "vtm")
        with pytest.raises(ReportError, match="not of clic, kodak"):
            bd_table([ANCHOR, curve("b", B_RATES, dataset="clic", psnr=B_PSNR)], PSNR, "a")
