"""Finding result files and reading them: our own records, and those that CompressAI publishes."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from callbacks.names import BPP
from callbacks.record import COMPRESSAI_NAMES
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.measured import as_number, finite, measured_point
from lightning_modules.reports.model import Point

OURS = ("schema", "codec", "mean", "protocols", "images")
"""Keys of our records that CompressAI's files do not have; a damaged record still has some of them."""

OLDER_NAMES = {"psnr": "psnr-rgb", "ms-ssim": "ms-ssim-rgb"}
"""CompressAI's names of before 2021 -> its present ones."""


class Found(NamedTuple):
    """What a search came upon."""

    records: list[Path]
    """In the order of the arguments, by path within a folder; each file once."""
    skipped: list[Path]
    """JSON files inside folders that are something else."""


def search(paths: Sequence[Path]) -> Found:
    """Look for result files.

    Args:
        paths: Files, taken as they are; and folders, searched with all that is in them. Hidden files and folders
            are passed over, and JSON of another kind (captions, settings) is only listed as skipped. A file that
            is no JSON at all counts as a damaged record: it is returned, for `read_points` to refuse.

    Raises:
        ReportError: A path does not exist, or a folder holds no result file.
    """
    records: dict[Path, Path] = {}
    skipped: list[Path] = []
    for path in paths:
        if path.is_file():
            records.setdefault(path.resolve(), path)
        elif path.is_dir():
            inside = list(json_files(path))
            candidates = [file for file in inside if may_be_result(file)]
            if not candidates:
                raise ReportError(
                    f"{path} holds no result record ({len(inside)} other JSON files). `test` and `anchors` write "
                    "them to results/ of their run directory."
                )
            for file in candidates:
                records.setdefault(file.resolve(), file)
            skipped += [file for file in inside if file not in candidates]
        else:
            raise ReportError(f"{path} does not exist; give result records, or folders that hold them")
    return Found(list(records.values()), skipped)


def find_records(paths: Sequence[Path]) -> list[Path]:
    """The result files among and below `paths`; see `search`, which also tells what was skipped."""
    return search(paths).records


def read_points(path: Path, dataset: str | None = None) -> list[Point]:
    """The points of a result file: one of our own record, all of a file of CompressAI's.

    CompressAI's files hold `results`: metric -> one value per point, times in seconds, MS-SSIM not in dB. Their
    metrics get our names and units, as far as we have such a figure.

    Args:
        path: The file.
        dataset: What a CompressAI file was measured on, which most do not say. Without it, it is the file's own
            `meta`, or else the name of its folder.

    Raises:
        ReportError: The file cannot be read, is neither kind, or is damaged.
    """
    content = load_json(path)
    if isinstance(content, Mapping) and _is_ours(content):
        return [measured_point(path, content)]
    if isinstance(content, Mapping) and isinstance(content.get("results"), Mapping):
        return _compressai_points(path, content, dataset)
    raise ReportError(
        f"{path} is neither a result record (schema, codec, dataset, mean, images) nor one of CompressAI's result "
        "files (name, description, results); leave it out"
    )


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ReportError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not JSON ({error}); test again to replace it, or leave it out") from error


def json_files(folder: Path) -> Iterator[Path]:
    """The JSON files in and below a folder, by path, without hidden ones and those in hidden folders."""
    for file in sorted(folder.rglob("*.json")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden:
            yield file


def may_be_result(path: Path) -> bool:
    """Whether a JSON file is a result file, or one that is damaged: `read_points` tells which."""
    try:
        content = load_json(path)
    except ReportError:
        return True
    if not isinstance(content, Mapping):
        return False
    results = content.get("results")
    return _is_ours(content) or (isinstance(results, Mapping) and isinstance(results.get("bpp"), list))


def _is_ours(content: Mapping[str, Any]) -> bool:
    # Two, so that neither another program's file with a "schema" is taken for a record, nor a record that has
    # lost a key for a CompressAI file, whose keys it has too.
    return sum(key in content for key in OURS) >= 2


def _compressai_points(path: Path, content: Mapping[str, Any], dataset: str | None) -> list[Point]:
    meta = content.get("meta")
    stated = meta.get("dataset") if isinstance(meta, Mapping) else None
    name, description = content.get("name"), content.get("description", "")
    if not isinstance(name, str) or not name:
        raise ReportError(f"{path} has no 'name' of its codec; add it, or leave the file out")
    columns = _columns(path, content["results"])
    if BPP not in columns:
        raise ReportError(f"{path} has no 'bpp' in 'results', so its points have no place on a curve; leave it out")
    count = len(columns[BPP])
    points = []
    for i in range(count):
        values = {figure: column[i] for figure, column in columns.items()}
        bpp = values[BPP]
        if not (math.isfinite(bpp) and bpp > 0):
            raise ReportError(f"{path}: 'bpp' of point {i + 1} is {bpp}; a rate is a finite number above 0")
        points.append(
            Point(
                codec=name,
                dataset=dataset or (stated if isinstance(stated, str) and stated else path.resolve().parent.name),
                label=f"point {i + 1} of {count}",
                bpp=bpp,
                figures=finite(values),
                source=str(path),
                kind="compressai",
                missing={figure: f"it is {value}" for figure, value in values.items() if not math.isfinite(value)},
                remark=description if isinstance(description, str) else "",
            )
        )
    return points


def _columns(path: Path, results: Mapping[str, Any]) -> dict[str, list[float]]:
    """Our figure names -> values in our units."""
    ours = {theirs: (figure, factor) for figure, (theirs, factor) in COMPRESSAI_NAMES.items()}
    columns: dict[str, list[float]] = {}
    for key, values in results.items():
        if not isinstance(values, list) or not values:
            raise ReportError(f"{path}: 'results' has {key!r} without a list of values")
        # A file with both names has them for two things: then the older one stands for itself.
        present = OLDER_NAMES.get(key, key)
        theirs = key if present != key and present in results else present
        figure, factor = ours.get(theirs, (theirs.removesuffix("-rgb").replace("-", "_"), 1.0))
        columns[figure] = [as_number(path, f"{key} of point {i + 1}", v) / factor for i, v in enumerate(values)]
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{key} {len(values)}" for key, values in results.items())
        raise ReportError(f"{path}: the lists in 'results' differ in length ({lengths}); points cannot be told apart")
    return columns
