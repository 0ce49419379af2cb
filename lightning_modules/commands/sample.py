"""`sample`: the embedded photographs as files, to try things on."""

import argparse
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
        description="Write the two test photographs of the embedded data, and captions.json, to a folder.",
        epilog="example: sample photographs",
    )
    parser.add_argument("folder", type=Path, help="where to put them; made if it does not exist")
    folder: Path = parser.parse_args(args).folder
    # The datamodules import Lightning, which the other verbs need not wait for.
    from datamodules import SampleDataModule

    samples = SampleDataModule().test_samples()
    folder.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        target = folder / sample.name
        if target.exists() and target.read_bytes() != sample.path.read_bytes():
            raise CommandError(f"{target} exists and is another picture: choose another folder")
        shutil.copyfile(sample.path, target)
        print(f'{target}  "{sample.captions[0]}"')
    captions = {sample.name: sample.captions[0] for sample in samples}
    (folder / "captions.json").write_text(json.dumps(captions, indent=2) + "\n")
