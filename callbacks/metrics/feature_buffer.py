"""Features of a dataset, collected batch by batch on every process."""

import hashlib

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

NO_LABEL = -1


def sample_key(name: str) -> int:
    """An int64 that stands for a name, the same in all processes and versions (64 bits of BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


class Features:
    """Features of a dataset on all processes, sorted by key, no key twice."""

    def __init__(self, real: Tensor, fake: Tensor, key: Tensor, label: Tensor) -> None:
        self.real = real
        """float32 (N, D), on the CPU: of the originals."""
        self.fake = fake
        """float32 (N, D), on the CPU: of the reconstructions."""
        self.key = key
        """int64 (N,)."""
        self.label = label
        """int64 (N,): classes; `NO_LABEL` where a sample has none."""

    def __len__(self) -> int:
        return len(self.key)


class FeatureBuffer(Metric):
    """Collects features of originals and reconstructions; `compute` gives those of all processes.

    Processes may bring different numbers of samples, or none. Samples that a distributed sampler repeated are told by
    their keys and kept once, and the order is that of the keys, so the result does not depend on the number of
    processes. Features stay on the CPU, in float32, and pass through the accelerator only to be gathered.
    """

    full_state_update = False
    real: list[Tensor]
    fake: list[Tensor]
    key: list[Tensor]
    label: list[Tensor]

    def __init__(self) -> None:
        super().__init__(dist_sync_fn=gather_rows)
        for state in ("real", "fake", "key", "label"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, real: Tensor, fake: Tensor, key: Tensor, label: Tensor | None = None) -> None:
        """Take in a batch.

        Args:
            real: float (B, D).
            fake: float (B, D).
            key: int64 (B,), from `sample_key`.
            label: int64 (B,), if the data has classes.

        Raises:
            ValueError: shapes that do not match.
        """
        if real.ndim != 2 or real.shape != fake.shape or key.shape != (len(real),):
            shapes = f"{tuple(real.shape)}, {tuple(fake.shape)} and {tuple(key.shape)}"
            raise ValueError(f"features must be (B, D) twice, with keys (B,); not {shapes}")
        if label is None:
            label = torch.full_like(key, NO_LABEL)
        elif label.shape != key.shape:
            raise ValueError(f"{len(key)} samples need labels of shape {tuple(key.shape)}, not {tuple(label.shape)}")
        self.real.append(real.detach().float().cpu())
        self.fake.append(fake.detach().float().cpu())
        self.key.append(key.cpu())
        self.label.append(label.long().cpu())

    def compute(self) -> Features:
        """The samples of all processes. Every process must call it."""
        if not any(part.numel() for part in self.key):
            return Features(torch.empty(0, 0), torch.empty(0, 0), *torch.empty(2, 0, dtype=torch.int64))
        real, fake, key, label = (dim_zero_cat(state) for state in (self.real, self.fake, self.key, self.label))
        _, first = np.unique(key.numpy(), return_index=True)  # sorted, and the first of each
        at = torch.from_numpy(first)
        return Features(real[at], fake[at], key[at], label[at])


def gather_rows(rows: Tensor, group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """Tensors of all processes, on the CPU, that may differ in their number of rows.

    A process without rows may bring any empty tensor: it cannot know the width or type of the others.
    """
    shapes: list[tuple[torch.Size, torch.dtype] | None] = [None] * dist.get_world_size(group)
    dist.all_gather_object(shapes, (rows.shape, rows.dtype) if rows.numel() else None, group=group)
    known = next((shape for shape in shapes if shape is not None), None)
    if known is None:
        return [rows.cpu()] * len(shapes)
    if not rows.numel():
        rows = torch.empty(0, *known[0][1:], dtype=known[1])
    # NCCL moves only what is on the GPU.
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend(group) == "nccl" else "cpu"
    return [part.cpu() for part in gather_all_tensors(rows.to(device), group)]
