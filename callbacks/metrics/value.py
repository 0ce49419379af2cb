"""A metric's value, or the reason why there is none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NotAvailable:
    """Stands where a figure would be: the metric could not be measured.

    It is never replaced by 0 or by the figure of a substitute (such as a resized image).
    """

    reason: str


Value = float | NotAvailable
