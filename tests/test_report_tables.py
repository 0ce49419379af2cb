"""The tables of a report, and the forms they are written in."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from callbacks.metrics.value import NotAvailable
from lightning_modules.reports.bd import bd_metric, bd_rate
from lightning_modules.reports.curves import figures_of
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve, Point
from lightning_modules.reports.table import Column, Missing, Table
from lightning_modules.reports.tables import (
    bd_tables,
    cost_table,
    not_available_table,
    points_table,
    protocols_table,
)
from tests.record_helpers import make_curves, make_record, sweep

RATES = [0.1, 0.2, 0.4, 0.8]
BETTER = {"psnr": [28.0, 30.5, 33.0, 35.5], "lpips": [0.4, 0.3, 0.2, 0.1]}
WORSE = {"psnr": [27.0, 29.0, 32.0, 34.0], "lpips": [0.5, 0.35, 0.25, 0.15]}


@pytest.fixture
def curves(tmp_path) -> list[Curve]:
    """An anchor, a codec on the same images, and one with a single point on another dataset."""
    return make_curves(
        tmp_path,
        *sweep("elic", RATES, **WORSE),
        *sweep("taco", RATES, **BETTER, encode_ms=[5.0, 6.0, 7.0, 8.0], decode_ms=3.0),
        make_record("taco", dataset="clic", psnr=30.0),
    )


def rows_of(table: Table) -> list[dict]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


class Cells(HTMLParser):
    """Rows of texts of an HTML table, and all tags that are opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.titles += [value for key, value in attrs if key == "title"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


class TestForms:
    table = Table(
        name="bd_kodak_psnr",
        caption="50% of <all> & λ_1",
        columns=(
            Column("Codec", numeric=False),
            Column("BD-rate", "%", False, 2),
            Column("PSNR", "dB", True, 2),
            Column("Points"),
        ),
        rows=(
            ("a_b & c, #1", -12.3456, 30.0, 4),
            ('{x} ~ ^ \\ "$"', Missing("no common <rates>"), -0.001, 12),
        ),
        notes=("b: 10% ≥\n5 <i>",),
    )

    def test_csv(self):
        text = self.table.to_csv()
        comments = [line for line in text.splitlines() if line.startswith("#")]
        assert comments == ["# 50% of <all> & λ_1", "# b: 10% ≥ 5 <i>"]
        rest = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        assert list(csv.reader(io.StringIO(rest))) == [
            ["Codec", "BD-rate [%] ↓", "PSNR [dB] ↑", "Points"],
            ["a_b & c, #1", "-12.3456", "30.0", "4"],
            ['{x} ~ ^ \\ "$"', "n/a", "-0.001", "12"],
        ]

    def test_latex(self):
        text = self.table.to_latex()
        body = [line.strip() for line in text.splitlines() if line.strip().endswith(r"\\")]
        assert body == [
            r"Codec & BD-rate [\%] $\downarrow$ & PSNR [dB] $\uparrow$ & Points \\",
            r"a\_b \& c, \#1 & $-$12.35 & 30.00 & 4 \\",
            r"\{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} "
            r'"\$" & n/a & 0.00 & 12 \\',
        ]
        assert r"\caption{50\% of \textless{}all\textgreater{} \& $\lambda$\_1}" in text
        assert r"\begin{tabular}{lrrr}" in text and r"\label{tab:bd_kodak_psnr}" in text
        assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
        assert re.findall(r"\\begin\{(\w+)", text) == re.findall(r"\\end\{(\w+)", text)[::-1] == ["table", "tabular"]
        assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")

    def test_html(self):
        parser = Cells()
        parser.feed(self.table.to_html())
        assert parser.open == []
        assert parser.rows == [
            list(self.table.header),
            ["a_b & c, #1", "−12.35", "30.00", "4"],
            ['{x} ~ ^ \\ "$"', "n/a", "0.00", "12"],
        ]
        assert parser.titles == ["no common <rates>"]
        assert "<i>" not in self.table.to_html() and "<all>" not in self.table.to_html()

    def test_ragged(self):
        with pytest.raises(ValueError, match="a row of 1 cells under 2 columns"):
            Table("t", "", (Column("a"), Column("b")), (("x",),))


class TestPoints:
    def test_rows(self, curves):
        table = points_table(curves, figures_of(curves))
        assert table.header == (
            *("Codec", "Dataset", "Setting", "Rate [bit/pixel] ↓"),
            *("PSNR [dB] ↑", "LPIPS (AlexNet) ↓"),
        )
        assert len(table.rows) == 9
        assert table.rows[0][:5] == ("taco", "clic", "λ = 0.01", pytest.approx(0.5), pytest.approx(30.0))
        assert table.rows[0][5] == Missing("not measured")
        assert table.rows[1] == ("elic", "kodak", "λ = 0.001", *map(pytest.approx, (0.1, 27.0, 0.5)))
        assert "elic & kodak & $\\lambda$ = 0.001 & 0.1000 & 27.00 & 0.5000 \\\\" in table.to_latex()

    def test_companions(self):
        figures = {"bpp": 0.5, "kid": 0.02, "kid_std": 0.001, "confid": 30.0}
        curve = Curve("a", "kodak", "printed", (Point("a", "kodak", "x", 0.5, figures, "a table", kind="printed"),))
        table = points_table([curve], figures_of([curve]))
        assert table.header[4:] == ("KID ↓", "standard deviation of KID", "ConFID ↓")
        assert table.rows[0][4:] == (0.02, 0.001, 30.0)

    def test_reason(self, tmp_path):
        curves = make_curves(tmp_path, make_record(psnr=30.0, ms_ssim=[NotAvailable("too small")] * 3))
        (row,) = points_table(curves, [*figures_of(curves)]).rows
        assert len(row) == 5  # nobody has MS-SSIM, so it is no column
        (reason,) = rows_of(not_available_table(curves))
        assert reason == {
            "Figure": "MS-SSIM",
            "Codec": "taco",
            "Dataset": "kodak",
            "Settings": "λ = 0.01",
            "Reason": "all images: too small",
        }


class TestBd:
    def test_values(self, curves):
        psnr, lpips = tables = bd_tables(curves, figures_of(curves), "elic")
        assert [table.name for table in tables] == ["bd_kodak_psnr", "bd_kodak_lpips"]
        _, elic, taco = curves
        for table, figure, sign in ((psnr, figures_of(curves)[0], 1), (lpips, figures_of(curves)[1], -1)):
            (row,) = table.rows
            assert row[0] == "taco"
            assert row[1] == bd_rate(elic, taco, figure, "cubic").value < 0
            assert row[2] == bd_rate(elic, taco, figure, "pchip").value < 0
            assert row[3] == bd_metric(elic, taco, figure, "cubic").value
            assert row[4] == bd_metric(elic, taco, figure, "pchip").value
            assert sign * row[3] > 0
            assert row[5:7] == (pytest.approx(0.1), pytest.approx(0.8))
        assert psnr.header == (
            *("Codec", "BD-rate, cubic [%] ↓", "BD-rate, pchip [%] ↓"),
            *("BD-PSNR, cubic [dB] ↑", "BD-PSNR, pchip [dB] ↑"),
            *("Rate, from [bit/pixel]", "Rate, to [bit/pixel]", "PSNR, from [dB]", "PSNR, to [dB]"),
        )
        assert psnr.rows[0][7:] == (pytest.approx(28.0), pytest.approx(34.0))
        assert "against elic" in psnr.caption and "each pair" in psnr.caption
        assert psnr.notes == ()

    def test_one_point(self, tmp_path):
        records = [*sweep("elic", RATES, **WORSE), *sweep("taco", [0.3], psnr=[31.0])]
        curves = make_curves(tmp_path, *records)
        psnr, lpips = (bd_tables(curves, [figure], "elic") for figure in figures_of(curves))
        assert lpips == []
        (row,) = psnr[0].rows
        reason = "taco has 1 point with this figure; cubic needs 4"
        assert row[1] == row[3] == Missing(reason)
        assert row[5:] == (Missing("no BD value"),) * 4
        assert f"taco, BD-rate (cubic), BD-metric (cubic): {reason}." in psnr[0].notes
        assert psnr[0].to_csv().splitlines()[-1] == "taco" + ",n/a" * 8

    def test_little_overlap(self, tmp_path):
        far = {"psnr": [33.0, 35.0, 36.0, 37.0]}
        curves = make_curves(tmp_path, *sweep("elic", RATES, **WORSE), *sweep("far", [0.6, 1.2, 2.4, 4.8], **far))
        (table,) = bd_tables(curves, figures_of(curves)[:1], "elic")
        assert "far, BD-metric: over 7% of what the two curves cover together." in table.notes
        assert "far, BD-rate: over 10% of what the two curves cover together." in table.notes

    def test_methods_with_other_ranges(self, tmp_path):
        """A curve of three points narrows the common range for pchip only; that is said."""
        records = [*sweep("elic", RATES, **WORSE), *sweep("taco", RATES, **BETTER)]
        records += sweep("three", [0.2, 0.4, 0.6], psnr=[29.0, 32.0, 33.0])
        curves = make_curves(tmp_path, *records)
        (table,) = bd_tables(curves, figures_of(curves)[:1], "elic", common_range=True)
        assert any(
            "taco, BD-metric: the methods do not have the same range: cubic 0.1 to 0.8" in n for n in table.notes
        )
        assert "all curves have in common" in table.caption

    def test_anchor(self, curves):
        with pytest.raises(ReportError, match=r"no curve is called 'vtm'.*there are: taco, elic"):
            bd_tables(curves, figures_of(curves), "vtm")


class TestCost:
    def test_rows(self, curves):
        rows = [row for row in rows_of(cost_table(curves)) if row["Dataset"] == "kodak" and row["Codec"] == "taco"]
        assert [(row["Part"], row["Parameters [M] ↓"], row["Operations [kMACs/pixel] ↓"]) for row in rows] == [
            ("all", 5.0, 250.5),
            ("g_a", 2.0, 100.0),
            ("g_s", 3.0, 150.5),
        ]
        assert rows[0]["Encode [ms] ↓"] == pytest.approx(6.5) and rows[0]["Decode [ms] ↓"] == pytest.approx(3.0)
        assert (rows[0]["Settings"], rows[0]["Device"]) == ("all 4", "cpu: x86_64, 1 threads")
        elic = next(row for row in rows_of(cost_table(curves)) if row["Codec"] == "elic")
        assert elic["Encode [ms] ↓"] == Missing("not measured at every setting")

    def test_classical_and_published(self, tmp_path):
        record = make_record("jpeg", psnr=30.0, encode_ms=4.0, decode_ms=2.0, setting={"quality": 75})
        curves = make_curves(tmp_path, record)
        figures = {"bpp": 1.0, "encode_ms": 7.0, "decode_ms": 8.0}
        timed = Point("VTM", "kodak", "point 1 of 1", 1.0, figures, "vtm.json", kind="compressai")
        silent = Point("BPG", "kodak", "point 1 of 1", 1.0, {"bpp": 1.0}, "bpg.json", kind="compressai")
        curves += [Curve(p.codec, "kodak", "compressai", (p,)) for p in (timed, silent)]
        jpeg, vtm = rows_of(cost_table(curves))
        assert jpeg["Parameters [M] ↓"] == Missing("parameters are not recorded")
        assert (jpeg["Encode [ms] ↓"], jpeg["Decode [ms] ↓"]) == (pytest.approx(4.0), pytest.approx(2.0))
        assert (vtm["Codec"], vtm["Encode [ms] ↓"], vtm["Device"]) == ("VTM", 7.0, "not recorded")

    def test_sizes_that_differ(self, tmp_path):
        small, large = sweep("taco", [0.1, 0.2], psnr=[28.0, 30.0])
        large["parameters"] = {"g_a": 7_000_000}
        rows = rows_of(cost_table(make_curves(tmp_path, small, large)))
        totals = [(row["Settings"], row["Parameters [M] ↓"]) for row in rows if row["Part"] == "all"]
        assert totals == [("λ = 0.001", 5.0), ("λ = 0.002", 7.0)]


class TestProtocols:
    def test_shared_and_differing(self, tmp_path):
        other = make_record("taco", psnr=30.0)
        other["protocols"]["psnr"]["images"] = "float RGB"
        rows = rows_of(protocols_table(make_curves(tmp_path, make_record("elic", psnr=30.0), other)))
        assert [(row["Figure"], row["Codecs"]) for row in rows] == [
            ("PSNR", "elic"),
            ("PSNR", "taco"),
            ("bpp", "all"),
        ]
        texts = {row["Codecs"]: row["Protocol"] for row in rows if row["Figure"] == "PSNR"}
        assert texts["elic"].startswith("unit: dB; images: 8-bit RGB;") and "images: float RGB" in texts["taco"]

    def test_empty(self):
        for table in (points_table([], []), cost_table([]), not_available_table([]), protocols_table([])):
            assert table.rows == () and "\\begin{tabular}" in table.to_latex() and "<table" in table.to_html()
