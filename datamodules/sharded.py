"""What every datamodule asks of the trainer: this process's share, the progress of an epoch, the device."""

from typing import Any

import lightning as L
from lightning.pytorch.accelerators import CUDAAccelerator

from datamodules.errors import DataError


class ShardedDataModule(L.LightningDataModule):
    """A datamodule whose samplers share the data over the processes by themselves, and resume inside an epoch."""

    def training_share(self) -> tuple[int, int]:
        """Rank and number of processes, for the training sampler.

        Raises:
            DataError: the trainer is set up in a way that would undo the loader's own sharding and order.
        """
        if self.trainer is not None and self.trainer.overfit_batches > 0:  # type: ignore[attr-defined]
            raise DataError(
                "overfit_batches would replace the sampler that order and resuming depend on: remove "
                "--trainer.overfit_batches, and overfit on few images instead (of a small folder, or by a large "
                "--data.val_images)"
            )
        return self.share()

    def check_evaluation(self, images: int, what: str) -> None:
        """Refuse to evaluate fewer images than there are processes: those with one would wait for the others.

        Raises:
            DataError: There are fewer.
        """
        processes = 1 if self.trainer is None else self.trainer.world_size
        if 0 < images < processes:
            raise DataError(
                f"{images} {what} images do not go round {processes} processes: use fewer --trainer.devices, raise "
                "--data.val_images, or set --trainer.limit_val_batches 0"
            )

    def share(self) -> tuple[int, int]:
        """Rank and number of processes; (0, 1) without a trainer.

        Raises:
            DataError: the trainer would shard the data a second time.
        """
        if self.trainer is None:
            return 0, 1
        if self.trainer.world_size > 1 and self.trainer._accelerator_connector.use_distributed_sampler:
            raise DataError(
                f"the trainer would shard the data a second time over its {self.trainer.world_size} "
                "processes: set --trainer.use_distributed_sampler false"
            )
        return self.trainer.global_rank, self.trainer.world_size

    def on_cuda(self) -> bool:
        """Whether batches go to a CUDA device."""
        return self.trainer is not None and isinstance(self.trainer.accelerator, CUDAAccelerator)

    def progress(self) -> tuple[int, float]:
        """How many batches of this epoch are trained on, and how many it has for the trainer."""
        assert self.trainer is not None
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return progress.processed, self.trainer.num_training_batches
