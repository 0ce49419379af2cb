"""`anchors`: classical codecs on a dataset, in the same records as trained ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_modules.commands.errors import CommandError

if TYPE_CHECKING:
    import lightning as L
    from jsonargparse import ArgumentParser, Namespace

    from lightning_modules.classical import ClassicalModule
    from lightning_modules.classical.codec import ClassicalCodec

CodecName = Literal["jpeg", "webp", "avif", "jxl", "jpeg2000", "bpg", "vtm", "hm"]

_DESCRIPTION = (
    "Measure classical codecs on the test images of a dataset through real files, and write a result record per "
    "point: OUTPUT/{codec}/{setting}/results/{dataset}.json. Points that are there already are left as they are, so "
    "an interrupted command continues when it is repeated. Example: anchors -c configs/anchors.yaml -o runs/anchors"
)


def build_parser() -> ArgumentParser:
    """The verb's parser; a config for it holds `data`, `callbacks` and the verb's own settings, no trainer."""
    # Lightning takes seconds to import, which the other verbs need not wait for.
    import lightning as L
    from jsonargparse import ArgumentParser

    from lightning_modules.classical import CODECS

    parser = ArgumentParser(
        prog="python -m lightning_modules.cli anchors", description=_DESCRIPTION, parser_mode="omegaconf+"
    )
    parser.add_argument("-c", "--config", action="config", help="config file, such as configs/anchors.yaml")
    parser.add_argument("-o", "--output", type=str, default="runs/anchors", help="folder of the points")
    parser.add_argument(
        "--codecs", type=CodecName, nargs="+", default=["jpeg", "webp", "avif", "jxl"], help="which codecs"
    )
    parser.add_argument(
        "--quality",
        type=float,
        nargs="+",
        default=None,
        help="values of each codec's own setting (qp for bpg, vtm and hm); null for a grid that samples its curve",
    )
    parser.add_argument(
        "--target_bpp",
        type=float,
        nargs="+",
        default=None,
        help="instead of --quality: rates that each image is coded at, as near as the codec comes",
    )
    parser.add_argument("--force", action="store_true", help="measure points again that are there already")
    parser.add_argument("--keep_files", action="store_true", help="keep the coded files, in bitstreams/")
    parser.add_argument(
        "--pictures", type=int, default=0, help="write the reconstructions of so many images per point, for reports"
    )
    parser.add_argument("--accelerator", type=str, default="auto", help="where the metrics' networks run")
    parser.add_argument(
        "--alexnet", type=bool | str, default=True, help="backbone of LPIPS: true downloads torchvision's, or a file"
    )
    parser.add_subclass_arguments(L.LightningDataModule, "data", required=True)
    parser.add_argument("--callbacks", type=list[L.Callback], default=[], help="metrics, and callbacks.ResultRecord")
    for name, codec in CODECS.items():
        parser.add_class_arguments(codec, name)
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: Settings that do not go together, data that cannot be read, or points that could not be
            measured (the others are).
    """
    from datamodules.errors import DataError
    from lightning_modules.classical import ClassicalCodecError
    from lightning_modules.classical.measure import RecordedConfig

    parser = build_parser()
    options = parser.parse_args(args)
    if options.quality is not None and options.target_bpp is not None:
        raise CommandError("give --quality or --target_bpp, not both")
    try:
        run_points(parser.instantiate(options), [RecordedConfig(parser, options)])  # type: ignore[arg-type]
    except (ClassicalCodecError, DataError) as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        print("interrupted; the same command continues with the point that was not finished", file=sys.stderr)
        raise SystemExit(130) from None


def run_points(options: Namespace, further: Sequence[L.Callback] = ()) -> None:
    """Measure every point, one after the other; a point that fails does not stop the rest.

    Args:
        options: Of `build_parser`, with classes instantiated.
        further: Callbacks beside those of the options.

    Raises:
        CommandError: There is no ResultRecord, or some points could not be measured.
        DataError: The data cannot be read.
    """
    from callbacks import Reconstructions, ResultRecord
    from lightning_modules.classical import ChosenSetting
    from lightning_modules.classical.measure import images_of

    callbacks: list[L.Callback] = [*options.callbacks, *further]
    records = [callback for callback in callbacks if isinstance(callback, ResultRecord)]
    if not records:
        raise CommandError("no callbacks.ResultRecord among the callbacks: use -c configs/anchors.yaml")
    for record in records:
        record.overwrite = options.force
    if options.pictures > 0:
        callbacks.append(Reconstructions(max_images=options.pictures, panel_images=0))
    images = images_of(options.data)
    failures = 0
    points = [(options[name], point) for name in dict.fromkeys(options.codecs) for point in _points(options, name)]
    for number, (codec, point) in enumerate(points, start=1):
        progress = f"[{number}/{len(points)}]"
        extra = [ChosenSetting(codec, point["target_bpp"])] if "target_bpp" in point else []
        try:
            print(progress, _measure_point(options, codec, point, [*callbacks, *extra], images), flush=True)
        except CommandError as error:
            failures += 1
            print(f"{progress} error: {error}", file=sys.stderr, flush=True)
    if failures:
        others = f"; the others are in {options.output}" if failures < len(points) else ""
        raise CommandError(f"{failures} of {len(points)} points could not be measured{others}")


def _points(options: Namespace, name: str) -> list[dict[str, float]]:
    if options.target_bpp is not None:
        return [{"target_bpp": bpp} for bpp in options.target_bpp]
    values = options.quality if options.quality is not None else options[name].setting.grid
    return [{"value": value} for value in values]


def _measure_point(
    options: Namespace, codec: ClassicalCodec, point: dict[str, float], callbacks: list[Any], images: Any
) -> str:
    from callbacks import ResultExistsError
    from lightning_modules.classical import ClassicalCodecError, ClassicalModule
    from lightning_modules.classical.measure import is_measured, measure

    start = time.perf_counter()
    try:
        module = ClassicalModule(codec, **point)
        folder = Path(options.output) / codec.name / module.point()
        if not options.force and is_measured(folder, module, images, callbacks, options.keep_files):
            return f"{codec.name} {module.point()}  is there already"
        measure(folder, module, options.data, callbacks, options.accelerator, options.keep_files)
    except ClassicalCodecError as error:
        raise CommandError(str(error)) from error
    except ResultExistsError as error:
        raise CommandError(
            f"{folder} holds a record of the same setting by another encoder or with other options; replace it with "
            "--force, or choose another --output"
        ) from error
    return f"{_line(module, callbacks)}  {time.perf_counter() - start:.1f} s"


def _line(module: ClassicalModule, callbacks: list[Any]) -> str:
    """One line on a measured point, from what the metrics found."""
    from callbacks import MetricCallback
    from callbacks.names import BPP, PSNR
    from lightning_modules.classical import ChosenSetting

    metrics = [callback for callback in callbacks if isinstance(callback, MetricCallback)]
    parts = [module.codec.name, module.point()]
    for dataset in dict.fromkeys(dataset for metric in metrics for dataset in metric.summary):
        figures = {name: value for metric in metrics for name, value in metric.summary.get(dataset, {}).items()}
        parts.append(f" {dataset}")
        parts += [f" {figures[BPP]:.4f} bpp"] if BPP in figures else []
        parts += [f" {figures[PSNR]:.2f} dB"] if PSNR in figures else []
        for metric in metrics:
            if isinstance(metric, ChosenSetting):
                found = metric.details[dataset][metric.name]
                parts.append(f" {found['images_within_tolerance']} of {found['images']} images within 1 %")
    return " ".join(parts)
