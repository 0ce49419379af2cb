"""The error for pretrained parts that cannot be had, worded once for every part."""

from pathlib import Path

import torch

from lightning_modules.errors import PretrainedError


def download_failed(part: str, file_name: str, setting: str, cause: Exception) -> PretrainedError:
    """The error for weights that torch.hub could neither find nor download.

    Args:
        part: what the weights are for, as a reader knows it ("LPIPS AlexNet backbone").
        file_name: name of the file that would have been downloaded, without address.
        setting: the configuration setting that takes a local path instead.
        cause: what went wrong.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if cache.is_relative_to(Path.home()):
        cache = "~" / cache.relative_to(Path.home())  # records keep this reason, and should not tell whose they are
    return PretrainedError(
        f"{part}: pretrained weights are not on this machine and {file_name} could not be downloaded "
        f"({type(cause).__name__}: {cause}). Either put {file_name} into {cache} "
        f"($TORCH_HOME/hub/checkpoints), or set {setting} to the path of a local copy."
    )


def unusable_file(part: str, path: str | Path, problem: str, setting: str) -> PretrainedError:
    """The error for a local weight file that is missing, unreadable, or of another network.

    Args:
        part: what the weights are for ("LPIPS AlexNet backbone").
        path: the file, as it was given.
        problem: what is wrong with it.
        setting: the configuration setting that named the file.
    """
    return PretrainedError(f"{part}: cannot use {path} (given by {setting}): {problem}.")
