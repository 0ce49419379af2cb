"""The loader of a stream: batches without end, cut into epochs, that resume after any batch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.stream_dataset import PlacedBatch, TrainingStream, collate_placed
from datamodules.stream_order import Cursor


class StreamLoader:
    """Batches of one process's share of a stream; an epoch is a number of them, not the end of the data.

    Workers go on from one epoch to the next, so nothing that they have read ahead is lost. Positions are those of the
    batches that were trained on, not of those handed out or read ahead.

    Args:
        stream: Makes the stream that begins at given positions and with a given turn.
        batch_size: Samples per batch.
        steps: Batches per epoch.
        dataset: Short name of the data.
        num_workers: Worker processes, each with a position of its own; 0 reads in the main process.
        pin_memory: Page-locked batches, for transfer to a CUDA device.
        progress: Tells how many batches of this epoch have been trained on and how many it has for the trainer.
            Without it every batch handed out counts as done.
        on_epoch_end: Called when the last batch of an epoch has been handed out or the iteration is given up.
    """

    def __init__(
        self,
        stream: Callable[[list[Cursor], int], TrainingStream],
        batch_size: int,
        steps: int,
        dataset: str,
        num_workers: int = 0,
        pin_memory: bool = False,
        progress: Callable[[], tuple[int, float]] | None = None,
        on_epoch_end: Callable[[], None] | None = None,
    ) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.steps = steps
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.progress = progress
        self.on_epoch_end = on_epoch_end
        self._batches: Iterator[PlacedBatch] | None = None
        self._cursors = [Cursor()] * max(1, num_workers)
        self._turn = 0
        self._handed: list[tuple[int, Cursor]] = []
        """Worker and position of the batches of this epoch that were handed out and are not known to be done."""
        self._done = 0
        """Batches of this epoch whose positions are in `_cursors`."""
        self._restored = False

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        if self._restored:
            self._restored = False
        else:
            self._settle(self._done + len(self._handed))
            self._done = 0
        if self._batches is None:
            self._batches = self._start()
        try:
            for number in range(self._done, self.steps):
                batch, cursor = next(self._batches)
                turn = (self._turn + len(self._handed)) % len(self._cursors)
                self._handed.append((turn, Cursor(*cursor)))
                self._settle(number - 1)  # a trainer fetches one batch ahead at most
                # A trainer that knows the length never asks for the batch after the last: tell it before.
                if number + 1 == self.steps and self.on_epoch_end is not None:
                    self.on_epoch_end()
                yield batch
        finally:
            if self.on_epoch_end is not None:
                self.on_epoch_end()

    def position(self) -> dict[str, Any]:
        """Position after the batches that are done: `batches` of this epoch, and of each worker."""
        handed = self._done + len(self._handed)
        done, end = (handed, float(self.steps)) if self.progress is None else self.progress()
        self._settle(min(done, handed))
        return {
            "batches": 0 if self._done >= end else self._done,
            "turn": self._turn,
            "cursors": [list(cursor) for cursor in self._cursors],
        }

    def continue_at(self, position: dict[str, Any]) -> None:
        """Let the next iteration begin at a position; those after it are of whole epochs."""
        self._cursors = [Cursor(*cursor) for cursor in position["cursors"]]
        self._turn = position["turn"]
        self._done = position["batches"]
        self._handed, self._batches, self._restored = [], None, True

    def stop(self) -> None:
        """End the workers; another iteration would start them again where training has got to.

        Left to the garbage collector, they would be waited for in vain, for five seconds each: it closes the queues
        through which they are told to end before it tells them.
        """
        self._batches = None

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the datamodule keeps the positions of all processes. Lightning asks whether a loader resumes."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing; see `state_dict`."""

    def _settle(self, done: int) -> None:
        """Move the positions behind the batches of this epoch that are done."""
        while self._handed and self._done < done:
            worker, cursor = self._handed.pop(0)
            self._cursors[worker] = cursor
            self._turn = (worker + 1) % len(self._cursors)
            self._done += 1

    def _start(self) -> Iterator[PlacedBatch]:
        loader: DataLoader[Any] = DataLoader(
            self.stream(list(self._cursors), self._turn),
            batch_size=self.batch_size,
            collate_fn=partial(collate_placed, dataset=self.dataset),
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
        )
        return iter(loader)
