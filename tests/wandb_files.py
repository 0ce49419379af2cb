"""What an offline W&B run has on disk, read from its log as W&B's own sync reads it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class OfflineRun(NamedTuple):
    """The records of a run, put together."""

    folder: Path
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    step_metrics: dict[str, str]
    """Name or pattern of metrics -> the metric that is their x-axis."""
    artifacts: dict[str, Any]
    """Name -> ArtifactRecord."""

    def logged(self) -> set[str]:
        return {key for row in self.history for key in row} | self.summary.keys()


def offline_run(run_dir: Path, job_type: str) -> OfflineRun:
    """The only run of a job type below a run directory."""
    runs = [read_run(log) for log in (run_dir / "wandb").glob("offline-run-*/*.wandb")]
    (run,) = (run for run in runs if run.job_type == job_type)
    return run


def read_run(log: Path) -> OfflineRun:
    """A run from its log."""
    run, config, summary = None, {}, {}
    history, steps, artifacts = [], {}, {}
    numbered: dict[int, str] = {}
    for record in records(log):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        elif kind == "config":
            config |= {name_of(item): json.loads(item.value_json) for item in record.config.update}
        elif kind == "summary":
            summary |= {name_of(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "history":
            row = {name_of(item): json.loads(item.value_json) for item in record.history.item}
            history.append(row)
            summary |= row  # the last value, unless a summary record says otherwise
        elif kind == "metric":
            metric = record.metric
            numbered[len(numbered) + 1] = metric.name or metric.glob_name
            if metric.step_metric or metric.step_metric_index:
                steps[metric.glob_name or metric.name] = metric.step_metric or numbered[metric.step_metric_index]
        elif kind == "artifact":
            artifacts[record.artifact.name] = record.artifact
        elif kind == "request" and record.request.HasField("log_artifact"):
            artifacts[record.request.log_artifact.artifact.name] = record.request.log_artifact.artifact
    assert run is not None
    return OfflineRun(
        log.parent,
        run.display_name,
        run.run_group,
        run.job_type,
        list(run.tags),
        config,
        summary,
        history,
        steps,
        artifacts,
    )


def name_of(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def records(log: Path) -> Iterator[Record]:
    """Records of a log in LevelDB's format: blocks of 32 KiB, each record in one piece or several."""
    data = log.read_bytes()
    assert data[:4] == b":W&B"
    place, parts = 7, b""
    while place + 7 <= len(data):
        room = BLOCK - place % BLOCK
        if room < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        piece = data[place + 7 : place + 7 + length]
        place += 7 + length
        parts = piece if kind in (FULL, FIRST) else parts + piece
        if kind in (FULL, LAST):
            yield Record.FromString(parts)
