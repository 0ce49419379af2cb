"""Files of figures that papers print: their layout, read strictly.

A reference is one JSON file per table, or per group of numbers in the text of a paper:

    {
      "schema": 1,
      "title": "Similarity of captions on CLIC",
      "kind": "rd",
      "source": {"paper": "Lee et al., ...", "venue": "ICML 2024", "where": "Table 1"},
      "dataset": "clic2020",
      "notes": ["how the figures were computed, as far as it is known"],
      ...
    }

`dataset` is the name that records of the same images must have to be drawn together with it. What follows depends on
`kind`:

- "rd" has `points`: `codec`; `setting` in words ("" where there is none); the rate, either `bpp` or, as printed for
  small images, `bits` per image together with the file's `pixels` per image; `figures`, our name -> value in our
  unit.
- "rates" has the same points without `figures`: rates that a paper prints where its figures are only drawn.
- "bd" has `anchor`, `units` (figure -> unit of its difference) and `rows`: `codec` and `figures`, Bjøntegaard
  differences against the anchor.
- "cost" has `hardware` (null where it does not matter) and `rows`: `codec` and `figures`, named as in `COSTS`.

Every point and row may have a `note`, and a `doubtful`: why the printed number is probably wrong. The numbers are
those that are printed, mistakes included; doubtful ones are never drawn. Nothing is read off pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.figures import KNOWN

SCHEMA = 1

ReferenceKind = Literal["rd", "rates", "bd", "cost"]

COSTS = {
    "parameters_m": "M",
    "encode_ms": "ms",
    "encode_high_resolution_ms": "ms",
    "decode_ms": "ms",
    "total_ms": "ms",
}
"""Figure of cost -> unit."""

_FIGURES = frozenset(figure.name for figure in KNOWN)
_COMMON = frozenset({"schema", "title", "kind", "source", "dataset", "notes"})
_KEYS: dict[str, frozenset[str]] = {
    "rd": frozenset({"points"}),
    "rates": frozenset({"points"}),
    "bd": frozenset({"anchor", "units", "rows"}),
    "cost": frozenset({"hardware", "rows"}),
}
_OPTIONAL = frozenset({"note", "doubtful"})


@dataclass(frozen=True)
class Printed:
    """One printed row: a codec and its numbers."""

    codec: str
    figures: Mapping[str, float]
    """Figure -> number; only those that are printed."""
    source: str
    """Paper, venue and table."""
    setting: str = ""
    bpp: float | None = None
    """Bits per pixel; kinds "rd" and "rates"."""
    note: str = ""
    doubtful: str = ""
    """Why it is probably a misprint, or ""."""


@dataclass(frozen=True)
class Reference:
    """One file of printed figures."""

    path: Path
    title: str
    kind: ReferenceKind
    source: str
    dataset: str
    notes: tuple[str, ...]
    rows: tuple[Printed, ...]
    anchor: str = ""
    """Codec that the differences are against; kind "bd"."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Figure -> unit of its numbers; kinds "bd" and "cost"."""
    hardware: str = ""
    """What the times were measured on; kind "cost"."""


def read_reference(path: Path) -> Reference:
    """Read and check one file.

    Raises:
        ReportError: It is missing, is not such a reference, names an unknown figure, or has a rate that is not
            positive; the message names the file, the entry and what is wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not JSON ({error})") from error
    return _Reader(path).reference(content)


class _Reader:
    """Turns the content of one file into a reference, or says where it is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def reference(self, content: Any) -> Reference:
        if not isinstance(content, dict):
            self.fail("the file", f"is a {type(content).__name__}, not an object")
        if content.get("schema") != SCHEMA:
            self.fail("schema", f"is {content.get('schema')!r}; this version reads {SCHEMA}")
        kind = content.get("kind")
        if kind not in _KEYS:
            self.fail("kind", f"is {kind!r}, not one of {', '.join(_KEYS)}")
        optional = {"pixels"} if "points" in _KEYS[kind] else set()
        self.keys("the file", content, _COMMON | _KEYS[kind], optional)
        source = content["source"]
        if not isinstance(source, dict):
            self.fail("source", f"is {source!r}, not an object")
        self.keys("source", source, {"paper", "venue", "where"})
        cited = ", ".join(self.text(f"source.{key}", source[key]) for key in ("paper", "venue", "where"))
        notes = content["notes"]
        if not isinstance(notes, list):
            self.fail("notes", f"is {notes!r}, not a list")
        units: Mapping[str, str] = {}
        if kind == "bd":
            units = self.units(content["units"])
        elif kind == "cost":
            units = COSTS
        hardware = content.get("hardware")
        return Reference(
            path=self.path,
            title=self.text("title", content["title"]),
            kind=kind,
            source=cited,
            dataset=self.text("dataset", content["dataset"]),
            notes=tuple(self.text("a note", note) for note in notes),
            rows=self.rows(content, kind, cited, units),
            anchor=self.text("anchor", content["anchor"]) if kind == "bd" else "",
            units=units,
            hardware="" if hardware is None else self.text("hardware", hardware),
        )

    def rows(self, content: dict, kind: str, source: str, units: Mapping[str, str]) -> tuple[Printed, ...]:
        name = "points" if "points" in _KEYS[kind] else "rows"
        entries = content[name]
        if not isinstance(entries, list) or not entries:
            self.fail(name, "is not a list of at least one entry")
        rows = tuple(
            self.row(f"{name}[{i}]", entry, kind, content.get("pixels"), source, units)
            for i, entry in enumerate(entries)
        )
        seen: dict[tuple[str, str, float | None], int] = {}
        for i, row in enumerate(rows):
            first = seen.setdefault((row.codec, row.setting, row.bpp), i)
            if first != i:
                self.fail(f"{name}[{i}]", f"is of the same codec, setting and rate as {name}[{first}]")
        return rows

    def row(self, where: str, entry: Any, kind: str, pixels: Any, source: str, units: Mapping[str, str]) -> Printed:
        if not isinstance(entry, dict):
            self.fail(where, f"is {entry!r}, not an object")
        bpp, setting = None, ""
        required, known = {"codec"}, _FIGURES
        if kind in ("rd", "rates"):
            required |= {"setting", "bits" if "bits" in entry else "bpp"}
        if kind != "rates":
            required |= {"figures"}
        self.keys(where, entry, required, _OPTIONAL)
        if kind in ("rd", "rates"):
            if not isinstance(entry["setting"], str):
                self.fail(f"{where}.setting", f"is {entry['setting']!r}, not text")
            setting = entry["setting"]
            bpp = self.rate(where, entry, pixels)
        elif kind == "bd":
            known = frozenset(units)
        else:
            known = frozenset(COSTS)
        return Printed(
            codec=self.text(f"{where}.codec", entry["codec"]),
            figures=self.figures(f"{where}.figures", entry["figures"], known, kind) if kind != "rates" else {},
            source=source,
            setting=setting,
            bpp=bpp,
            note=self.remark(where, entry, "note"),
            doubtful=self.remark(where, entry, "doubtful"),
        )

    def rate(self, where: str, entry: dict, pixels: Any) -> float:
        if "bits" not in entry:
            return self.positive(f"{where}.bpp", entry["bpp"])
        bits = self.positive(f"{where}.bits", entry["bits"])
        if pixels is None:
            self.fail(f"{where}.bits", "needs the file's `pixels`, the number of pixels of an image")
        return bits / self.positive("pixels", pixels)

    def figures(self, where: str, figures: Any, known: frozenset[str], kind: str) -> dict[str, float]:
        if not isinstance(figures, dict) or not figures:
            self.fail(where, "is not an object with at least one figure")
        if unknown := sorted(set(figures) - known):
            self.fail(where, f"has {unknown[0]!r}, not one of {', '.join(sorted(known))}")
        check = self.positive if kind == "cost" else self.number
        return {name: check(f"{where}.{name}", value) for name, value in figures.items()}

    def units(self, units: Any) -> dict[str, str]:
        if not isinstance(units, dict) or not units:
            self.fail("units", "is not an object with at least one figure")
        if unknown := sorted(set(units) - _FIGURES):
            self.fail("units", f"has {unknown[0]!r}, not one of {', '.join(sorted(_FIGURES))}")
        for name, unit in units.items():
            if not isinstance(unit, str):  # "" where there is none
                self.fail(f"units.{name}", f"is {unit!r}, not text")
        return units

    def remark(self, where: str, entry: dict, key: str) -> str:
        value = entry.get(key)
        return "" if value is None else self.text(f"{where}.{key}", value)

    def keys(self, where: str, entry: dict, required: Iterable[str], optional: Iterable[str] = ()) -> None:
        required = set(required)
        if missing := sorted(required - set(entry)):
            self.fail(where, f"lacks {', '.join(missing)}")
        if unknown := sorted(set(entry) - required - set(optional)):
            self.fail(where, f"has {', '.join(unknown)}, which this kind of reference does not have")

    def text(self, where: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            self.fail(where, f"is {value!r}, not text")
        return value

    def number(self, where: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(where, f"is {value!r}, not a finite number")
        return float(value)

    def positive(self, where: str, value: Any) -> float:
        number = self.number(where, value)
        if number <= 0:
            self.fail(where, f"is {value!r}, not above 0")
        return number

    def fail(self, where: str, problem: str) -> NoReturn:
        raise ReportError(f"{self.path}: {where} {problem}")


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number that a paper prints")
