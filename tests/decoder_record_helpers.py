"""Records of codecs with several decoders, as `test` writes them, and reproduction reports of them."""

import csv
import json
from pathlib import Path
from typing import Any

from lightning_modules.reports.markdown import section_text
from lightning_modules.reports.reproduction import Reproduction


def write_decoder_record(
    run: Path,
    codec: str,
    setting: dict[str, Any],
    decoder: str,
    realism: float,
    dataset: str,
    mean: dict[str, float],
    images: list[dict[str, Any]],
    **entries: Any,
) -> Path:
    """Write `{run}/results/{dataset}-{decoder}.json`.

    Args:
        setting: Of the codec; the decoder is added to it.
        mean: Figures of the test set.
        images: Rows.
        entries: What a record has beside these: protocols, training, weights and so on.
    """
    record = {
        "schema": 1,
        "name": codec,
        "description": "as test writes it",
        "results": {"bpp": [mean["bpp"]]},
        "setting": {**setting, "decoder": decoder},
        "codec": codec,
        "lambda": setting.get("lambda"),
        "decoder": {"name": decoder, "realism": realism},
        "parameters": {"encoder": 1000},
        "dataset": dataset,
        "mean": mean,
        "not_available": {},
        "checkpoint": {"path": "last.ckpt", "step": 1, "epoch": 1},
        "device": "cpu",
        "versions": {},
        "git": None,
        "config": None,
        **entries,
        "images": images,
    }
    path = run / "results" / f"{dataset}-{decoder}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def values_of(
    rows: dict[str, list[float]] | None, mean: dict[str, float], names: tuple[str, ...], i: int
) -> dict[str, float]:
    """Figures of the i-th image, those of `names` that have a mean; where `rows` do not tell, it is that."""
    given = rows or {}
    return {name: given[name][i] if name in given else mean[name] for name in names if name in mean}


class Draft:
    """The report of one test set without its figures, which take seconds to draw."""

    def __init__(self, report: Reproduction[Any, Any], folder: Path) -> None:
        (self.models,) = report.sort(report.read([folder]).results)
        sections = report.sections(self.models)
        self.tables = {table.name: table for section in sections for table in section.tables}
        self.shown = {picture.name: picture for section in sections for picture in section.shown}
        suffixes = (".csv", ".tex") if report.kind.latex else (".csv",)
        tables = {name: [f"{name}{suffix}" for suffix in suffixes] for name in self.tables}
        pictures = {name: [f"{name}.png"] for name in self.shown}
        self.page = "\n".join(line for section in sections for line in section_text(section, tables, pictures))

    def write(self, name: str, folder: Path) -> Path:
        """One of its pictures, or figures."""
        return self.shown[name].write(folder / name)[0]

    def table(self, name: str) -> list[dict[str, str]]:
        """Rows of a table, without its notes."""
        lines = self.tables[name].to_csv().splitlines()
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))

    def checks(self) -> dict[str, dict[str, str]]:
        """Rows of the checks by claim."""
        return {row["claim"]: row for row in self.table("checks")}
