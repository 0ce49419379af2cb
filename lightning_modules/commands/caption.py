"""`caption`: captions of photographs, by OFA or any image-to-text model of the transformers package."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_modules.commands.batch import choose_device
from lightning_modules.commands.errors import CommandError
from lightning_modules.commands.partial_captions import PartialCaptions
from lightning_modules.errors import PretrainedError
from lightning_modules.files import write_atomically

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from torch import Tensor

    from callbacks.captioners import HuggingFaceCaptioner, OfaCaptioner
    from datamodules.samples import Sample

_DESCRIPTION = (
    "Caption the photographs of a folder, or of a dataset's config, and write a JSON map from names to captions. An "
    "interrupted command continues when it is repeated. Photographs that cannot be read are named and left out. "
    "Examples: caption photographs -o captions.json, or caption -c configs/data/kodak.yaml -o kodak.json --model "
    "Salesforce/blip-image-captioning-large"
)


def build_parser() -> ArgumentParser:
    """The verb's parser; a config for it holds `data` and the verb's own settings."""
    # Lightning takes seconds to import, which the other verbs need not wait for.
    import lightning as L
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="python -m lightning_modules.cli caption", description=_DESCRIPTION, parser_mode="omegaconf+"
    )
    parser.add_argument(
        "photographs", nargs="?", type=str | None, help="folder that holds the photographs themselves"
    )
    parser.add_argument("-c", "--config", action="config", help="instead: a config with data, such as configs/data/*")
    parser.add_argument("-o", "--output", type=str, required=True, help="JSON file to write")
    parser.add_argument(
        "--model",
        type=str,
        default="OFA-Sys/ofa-large",
        help="hub id, or a folder with its files: OFA-Sys/ofa-{tiny,medium,base,large,huge}, BLIP, BLIP-2, GIT, ...",
    )
    parser.add_argument(
        "--prompt", type=str | None, help="words to continue, or the question; null for the model's own"
    )
    parser.add_argument(
        "--num_beams", type=int | None, help="width of the beam search; null for 5 (OFA) or 3 (others)"
    )
    parser.add_argument("--max_new_tokens", type=int | None, help="longest caption; null for 16 (OFA) or 30 (others)")
    parser.add_argument("--batch_size", type=int, default=8, help="photographs at a time, if they are of one size")
    parser.add_argument(
        "--split", type=Literal["train", "test"], default="test", help="which images of a config's dataset"
    )
    parser.add_argument(
        "--device", type=str, default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ..."
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the output, and captions left by a command with other settings"
    )
    parser.add_subclass_arguments(L.LightningDataModule, "data", required=False)
    return parser


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: Settings that do not go together, an output in the way or that cannot be written, or no
            photograph that can be read.
        PretrainedError: The model cannot be had.
    """
    from callbacks.captioners import CaptionError
    from datamodules.errors import DataError

    parser = build_parser()
    options = parser.parse_args(args)
    output = Path(options.output)
    if options.batch_size < 1:
        raise CommandError(f"--batch_size is {options.batch_size}: set it to 1 or more")
    try:
        _run(parser, options, output)
    except (CaptionError, DataError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:  # a full disk does not say which file it was
        raise CommandError(
            f"{output} cannot be made ({error}): mend this, and the same command continues, or choose another "
            "--output"
        ) from error
    except KeyboardInterrupt:
        print("interrupted; the same command continues after the last caption", file=sys.stderr)
        raise SystemExit(130) from None


def _run(parser: ArgumentParser, options: Namespace, output: Path) -> None:
    """Caption, and write the output."""
    if output.is_dir():
        raise CommandError(f"{output} is a folder: name a file for --output")
    if output.exists() and not options.force:
        raise CommandError(f"{output} exists; replace it with --force, or choose another --output")
    samples = _samples(parser.instantiate(options))
    _require_names_of_text(samples)
    captioner = _captioner(options)
    partial = output.with_name(f"{output.name}.partial")
    with PartialCaptions(partial, _settings(options, captioner, samples), options.force) as kept:
        unreadable = _caption(samples, captioner, kept, options)
    captions = {sample.name: kept.captions[sample.name] for sample in samples if sample.name in kept.captions}
    _report(unreadable, len(samples), "cannot be read and have no caption")
    _report([name for name, caption in captions.items() if not caption], len(samples), "have an empty caption")
    if not captions:
        raise CommandError("there is no photograph that could be read: nothing was written")
    text = json.dumps(captions, indent=4, ensure_ascii=False) + "\n"
    write_atomically(output, lambda draft: draft.write_text(text, encoding="utf-8"))
    partial.unlink(missing_ok=True)
    print(f"{len(captions)} captions -> {output}")


def _samples(options: Namespace) -> list[Sample]:
    """The images to caption, in the order of the output."""
    from datamodules import CaptionedImageDataModule
    from datamodules.caption_join import IMAGE_EXTENSIONS
    from datamodules.captioned_folder import natural_order
    from datamodules.samples import Sample

    if (options.photographs is None) == (options.data is None):
        raise CommandError("name either a folder of photographs or a dataset, such as -c configs/data/kodak.yaml")
    if options.data is not None:
        if not isinstance(options.data, CaptionedImageDataModule):
            raise CommandError(f"{type(options.data).__name__} is not a dataset of photographs in files")
        return options.data.training_samples() if options.split == "train" else options.data.test_samples()
    folder = Path(options.photographs)
    if not folder.is_dir():
        raise CommandError(f"{folder} is no folder: name the one that holds the photographs")
    names = [path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_EXTENSIONS]
    if not names:
        raise CommandError(f"no photograph in {folder} (looked for {', '.join(sorted(IMAGE_EXTENSIONS))})")
    return [Sample(name, folder / name) for name in sorted(names, key=natural_order)]


def _require_names_of_text(samples: list[Sample]) -> None:
    """Refuse names that the output cannot hold before anything is captioned."""
    from datamodules.errors import first_of

    # Python puts lone surrogates where the bytes of a name are not UTF-8.
    garbled = [repr(name) for name in (sample.name for sample in samples) if re.search("[\ud800-\udfff]", name)]
    if garbled:
        raise CommandError(
            f"{len(garbled)} of {len(samples)} photographs have names that are not UTF-8 ({first_of(garbled)}), "
            "which a JSON file cannot hold: rename them"
        )


def _captioner(options: Namespace) -> HuggingFaceCaptioner | OfaCaptioner:
    from callbacks.captioners import HuggingFaceCaptioner, OfaCaptioner
    from callbacks.captioners.ofa import is_ofa

    given = {key: options[key] for key in ("prompt", "num_beams", "max_new_tokens") if options[key] is not None}
    return (OfaCaptioner if is_ofa(options.model, "--model") else HuggingFaceCaptioner)(options.model, **given)


def _settings(
    options: Namespace, captioner: HuggingFaceCaptioner | OfaCaptioner, samples: list[Sample]
) -> dict[str, Any]:
    """What captions depend on."""
    from callbacks.hugging_face import is_folder

    model = str(Path(options.model).expanduser().resolve()) if is_folder(options.model) else options.model
    folders = {str(sample.path.parent.resolve()) for sample in samples}
    asked = {key: getattr(captioner, key) for key in ("prompt", "num_beams", "max_new_tokens")}
    return {"model": model, **asked, "images in": os.path.commonpath(folders)}


def _caption(
    samples: list[Sample], captioner: HuggingFaceCaptioner | OfaCaptioner, kept: PartialCaptions, options: Namespace
) -> list[str]:
    """Caption what has no caption yet; return the names of unreadable files."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    todo = [sample for sample in samples if sample.name not in kept.captions]
    if not todo:
        return []
    if len(todo) < len(samples):
        print(f"{len(samples) - len(todo)} of {len(samples)} captions are there already", flush=True)
    _prepare(captioner, options.device)
    unreadable: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("photographs", total=len(todo))
        for names, images in _batches(todo, options.batch_size, unreadable):
            kept.add(dict(zip(names, captioner(images, names, "original"), strict=True)))
            progress.advance(task, len(names))
    return unreadable


def _prepare(captioner: HuggingFaceCaptioner | OfaCaptioner, device: str) -> None:
    from callbacks.captioners.hugging_face import SETTING
    from callbacks.captioners.ofa.captioner import SETTING as OFA_SETTING

    try:
        captioner.prepare(choose_device(device))
    except PretrainedError as error:  # its remedy names the setting of a config, which here is an option
        raise PretrainedError(str(error).replace(SETTING, "--model").replace(OFA_SETTING, "--model")) from error


def _batches(samples: list[Sample], size: int, unreadable: list[str]) -> Iterator[tuple[list[str], Tensor]]:
    """Names and images (B, 3, H, W) of one size; files that cannot be read are put into `unreadable`."""
    import torch

    from datamodules.decoding import load_rgb
    from datamodules.errors import UnreadableImageError
    from datamodules.samples import image_size
    from datamodules.transforms import to_tensor

    sizes: dict[str, tuple[int, int]] = {}
    for sample in samples:
        try:
            sizes[sample.name] = image_size(sample)
        except UnreadableImageError:
            unreadable.append(sample.name)
    names: list[str] = []
    images: list[Tensor] = []
    # Neighbours of one size make batches of photographs of many sizes, with no more of them in memory than a batch.
    for sample in sorted(
        (sample for sample in samples if sample.name in sizes), key=lambda sample: sizes[sample.name]
    ):
        try:
            image = to_tensor(load_rgb(sample.path))
        except UnreadableImageError:
            unreadable.append(sample.name)
            continue
        if images and (len(images) == size or images[0].shape != image.shape):
            yield names, torch.stack(images)
            names, images = [], []
        names.append(sample.name)
        images.append(image)
    if images:
        yield names, torch.stack(images)


def _report(names: list[str], total: int, problem: str) -> None:
    """A line on standard error, with every name: the list is what there is to repair."""
    if names:
        print(f"{len(names)} of {total} photographs {problem}: {', '.join(names)}", file=sys.stderr)
