"""`sample`: the embedded photographs or digits as files, to try things on."""

import argparse
import io
import json
import shutil
from pathlib import Path

from lightning_modules.commands.errors import CommandError


def main(args: list[str]) -> None:
    """Run the verb.

    Raises:
        CommandError: A photograph of that name exists already and differs.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lightning_modules.cli sample",
        description="Write the two test photographs of the embedded data, and captions.json, to a folder; or, with "
        "--digits, the first test digit of each class.",
        epilog="example: sample photographs, or sample --digits digits",
    )
    parser.add_argument("folder", type=Path, help="where to put them; made if it does not exist")
    parser.add_argument("--digits", action="store_true", help="digits of 32x32 instead of photographs")
    options = parser.parse_args(args)
    folder: Path = options.folder
    if options.digits:
        _write_digits(folder)
        return
    # Here, for `--help` need not wait for torch.
    from datamodules.embedded_photographs import TEST, photographs

    samples = photographs(TEST)
    folder.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        target = folder / sample.name
        if target.exists() and target.read_bytes() != sample.path.read_bytes():
            raise CommandError(f"{target} exists and is another picture: choose another folder")
        shutil.copyfile(sample.path, target)
        print(f'{target}  "{sample.captions[0]}"')
    captions = {sample.name: sample.captions[0] for sample in samples}
    (folder / "captions.json").write_text(json.dumps(captions, indent=2) + "\n")


def _write_digits(folder: Path) -> None:
    """The first test digit of each class, as `digit_7.png`."""
    from callbacks.pictures import to_picture
    from datamodules import DigitsDataModule

    digits = next(iter(DigitsDataModule(batch_size=359).test_dataloader()))
    folder.mkdir(parents=True, exist_ok=True)
    for label in range(10):
        first = int((digits["label"] == label).nonzero()[0])
        target = folder / f"digit_{label}.png"
        buffer = io.BytesIO()
        to_picture(digits["image"][first]).save(buffer, "PNG")
        if target.exists() and target.read_bytes() != buffer.getvalue():
            raise CommandError(f"{target} exists and is another picture: choose another folder")
        target.write_bytes(buffer.getvalue())
        print(f"{target}  {digits['name'][first]}, a {label}")
