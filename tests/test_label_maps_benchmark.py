"""The table of `benchmarks/label_maps.py` in a page that has more."""

import sys
from pathlib import Path

import pytest

from benchmarks.label_maps import BEGIN, END, main, page_around, write_table
from tests.conftest import ROOT

PUBLISHED = ROOT / "docs" / "results" / "streets" / "label_maps.md"


def test_a_new_table_leaves_the_rest_of_the_published_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = PUBLISHED.read_text(encoding="utf-8")
    page.write_text(text, encoding="utf-8")
    old = text.split(f"{BEGIN}\n")[1].split(f"\n{END}\n")[0]
    assert old.startswith("24 maps of 64x32") and old.endswith("|")
    write_table(page, "| new |")
    assert page.read_text(encoding="utf-8") == text.replace(old, "| new |")
    write_table(page, old)
    assert page.read_text(encoding="utf-8") == text


def test_a_page_that_is_not_there_is_made_and_can_be_written_again(tmp_path: Path) -> None:
    for table in ("| first |", "| second |"):
        write_table(tmp_path / "new.md", table)
    assert (tmp_path / "new.md").read_text(encoding="utf-8") == f"{BEGIN}\n| second |\n{END}\n"


@pytest.mark.parametrize(
    "text",
    ["by hand\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", 2 * f"{BEGIN}\n{END}\n", f"{BEGIN} and more\n{END}\n"],
)
def test_a_page_without_a_single_place_is_refused_before_anything_is_measured(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="has no place for the table: put one line <!-- label maps -->"):
        page_around(page)
    monkeypatch.setattr(sys, "argv", ["label_maps.py", "--root", str(tmp_path / "none"), "--markdown", str(page)])
    with pytest.raises(SystemExit):
        main()
    assert "has no place for the table" in capsys.readouterr().err and page.read_text() == text
