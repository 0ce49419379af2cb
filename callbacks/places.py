"""Where the images of a batch stand in their data set."""

from typing import Any

import lightning as L


class Places:
    """Counts the images of an evaluation, so that "the first images" are the same for any number of processes.

    It goes by the batch, as a decoder may leave images out of its output.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, trainer: L.Trainer, batch: Any) -> dict[str, int]:
        """Image name -> place in the data set, from 0. To be called once for each batch of this process."""
        seen = self._seen.get(batch["dataset"], 0)
        self._seen[batch["dataset"]] = seen + len(batch["name"])
        # A distributed sampler deals images out in turn.
        first = seen * trainer.world_size + trainer.global_rank
        return {name: first + i * trainer.world_size for i, name in enumerate(batch["name"])}
