"""The datamodules' arguments on the command line."""

import io
import re
from contextlib import redirect_stdout

import pytest
from lightning.pytorch.cli import LightningCLI

from tests.data_helpers import (
    Recorder,
)


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("SampleDataModule", ["--data.crops_per_image=2"]),
        (
            "CaptionedFolderDataModule",
            ["--data.root=images", "--data.captions_file=null", "--data.val_images=3"],
        ),
        ("CocoCaptionsDataModule", ["--data.root=coco", "--data.year=2014", "--data.on_unreadable=skip"]),
    ],
)
def test_command_line_settings(module: str, settings: list[str]) -> None:
    shared = ["--data.batch_size=3", "--data.test_crop=64", "--data.captions=first", "--data.seed=5"]
    cli = LightningCLI(Recorder, run=False, args=[f"--data=datamodules.{module}", *settings, *shared])
    assert type(cli.datamodule).__name__ == module
    for argument in settings + shared:
        name, value = argument.removeprefix("--data.").split("=")
        assert str(getattr(cli.datamodule, name)).replace("None", "null") == value


@pytest.mark.parametrize("module", ["SampleDataModule", "CaptionedFolderDataModule", "CocoCaptionsDataModule"])
def test_help_explains_every_argument(module: str) -> None:
    text = io.StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit):
        LightningCLI(Recorder, run=False, args=[f"--data.help=datamodules.{module}"])
    shared = ["batch_size", "crop_size", "test_crop", "num_workers", "seed", "captions", "on_unreadable"]
    own = {"SampleDataModule": "crops_per_image", "CaptionedFolderDataModule": "name"}
    for name in [*shared, own.get(module, "test_list")]:
        assert re.search(rf"\n  --data.{name} [^\n]*\n? +[A-Z\"][^(]", text.getvalue()), name
