"""What a policy left out or changed during an epoch: counted wherever it happens, told in one warning at its end."""

import hashlib

import torch

from datamodules.errors import DataError, first_of

_SLOTS = 1 << 18  # by hash: among 100 names, two share a slot with a probability of 2 %, and count as one then
_SHOWN = 8
_NAME_BYTES = 120


class Tally:
    """Counts distinct names in memory that this process shares with its data workers.

    Create it before the workers start, and hand it to them with the dataset. It needs no lock: a slot is one byte
    that only ever becomes 1, and what two workers could spoil is one of the names that a message shows.

    Args:
        what: What happened to the images, for messages, e.g. "were padded".
        advice: What to do about it: sentences.
        limit: How many names are too many in one epoch and process; None for any number.
        setting: Name of the setting that holds the limit, for the message.
        kind: Which images, for messages.
        slots: For names that are known by number: how many there are. By default names are told apart by hash.
    """

    def __init__(
        self,
        what: str,
        advice: str = "",
        limit: int | None = None,
        setting: str = "",
        kind: str = "images",
        slots: int = _SLOTS,
    ) -> None:
        self.what = f"{kind} {what}"
        self.advice = advice
        self.limit = limit
        self.setting = setting
        self._met = torch.zeros(slots, dtype=torch.uint8).share_memory_()
        self._names = torch.zeros(_SHOWN, _NAME_BYTES, dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return int(self._met.count_nonzero())

    def note(self, name: str, number: int | None = None) -> None:
        """Count `name` (by its number, where names are known by number), once however often it is noted.

        Raises:
            DataError: these are more than the limit.
        """
        if number is None:
            digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest()
            number = int.from_bytes(digest, "little") % len(self._met)
        if self._met[number]:
            return
        self._met[number] = 1
        free = (self._names[:, 0] == 0).nonzero().flatten()
        if len(free) > 0:
            encoded = name.encode(errors="replace")[:_NAME_BYTES]
            self._names[free[0], : len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        if self.limit is not None and len(self) > self.limit:
            raise DataError(
                f"{len(self)} {self.what} in one epoch, more than {self.setting}={self.limit}: "
                f"{self._first()}. Check the disk, or raise --data.{self.setting}."
            )

    def report(self) -> None:
        """Warn, on rank zero, about what this process and its workers noted, and forget it."""
        # Here, for what reads photographs without training need not wait for Lightning.
        from lightning.pytorch.utilities import rank_zero_warn

        count = len(self)
        if count == 0:
            return
        message = f"{count} {self.what} (as seen by rank 0): {self._first()}. {self.advice}".rstrip()
        self._met.zero_()
        self._names.zero_()
        rank_zero_warn(message)

    def _first(self) -> str:
        names = [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in self._names if row[0]]
        return first_of(sorted(names) + [""] * (len(self) - len(names)))
