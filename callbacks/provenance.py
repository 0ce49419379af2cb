"""Where a result came from: versions, source state, device."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "compressai",
    "lpips",
    "torchmetrics",
    "torch-fidelity",
    "piq",
    "pycocoevalcap",
    "transformers",
    "numpy",
    "pillow",
    "pillow-jxl-plugin",
)
"""The packages whose versions can change a result."""


def versions() -> dict[str, str]:
    """Versions of Python, CUDA (where torch has it) and the packages above (those that are installed)."""
    found = {"python": platform.python_version()}
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(source: Path = Path(__file__)) -> dict[str, Any] | None:
    """Commit and dirtiness of the checkout that a source file belongs to.

    Args:
        source: a source file.

    Returns:
        `{"commit": hex, "dirty": bool}`, or `None` where the file is not tracked by git (an installed package
        that happens to lie inside another project's checkout) or git is not there.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def describe_device(device: torch.device) -> str:
    """A device in words, for example `cuda: NVIDIA H100` or `cpu: x86_64, 8 threads`."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu: {platform.machine()}, {torch.get_num_threads()} threads"
    return device.type
