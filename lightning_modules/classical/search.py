"""The setting at which a picture has a given rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lightning_modules.classical.codec import ClassicalCodec, ClassicalCodecError

TOLERANCE = 0.01
"""Relative difference to the target rate at which the search is content."""

RESOLUTION = 1 / 1024
"""Width of the interval at which the search in a continuous setting gives up, as a share of its whole range. Rates
that a codec leaps over cannot be met at any resolution."""


class Trial(NamedTuple):
    """A picture coded at one setting."""

    value: float
    data: bytes
    seconds: float
    """Wall clock of the encoding."""
    bpp: float
    """8 bits per byte of the file over the pixels."""


class UnreachableRateError(ClassicalCodecError):
    """No setting of a codec has the rate."""


def within_tolerance(bpp: float, target_bpp: float) -> bool:
    """Whether a rate is close enough to the target."""
    return abs(bpp - target_bpp) <= TOLERANCE * target_bpp


def find_rate(codec: ClassicalCodec, code: Callable[[float], Trial], target_bpp: float, picture: str) -> Trial:
    """The setting whose rate is nearest to the target, by bisection.

    Rate is taken to be monotone in the setting, which codecs are but for ripples much smaller than the tolerance;
    where one is not, the result is the nearest of the settings tried. A continuous setting is searched until the
    rate is within 1 %; a setting of whole numbers has no finer steps than its own, and the nearer of the two that
    enclose the target is returned, however far it is. The caller tells which images are within 1 %.

    Args:
        codec: Whose setting it is.
        code: Codes the picture at a value of the setting.
        target_bpp: Bits per pixel, above 0.
        picture: Its name, for the error.

    Raises:
        UnreachableRateError: The target is more than 1 % outside the rates at the ends of the setting's range.
    """
    setting = codec.setting
    trials: dict[float, Trial] = {}

    def tried(value: float) -> Trial:
        value = setting.check(codec.name, value)
        if value not in trials:
            trials[value] = code(value)
        return trials[value]

    # `small` has the smaller files, `large` the larger ones. The ends themselves are coded only when they are needed:
    # the encoders' slowest settings are among them.
    small, large = setting.lowest, setting.highest
    if not setting.raises_rate:
        small, large = large, small
    finest = RESOLUTION * (setting.highest - setting.lowest) if setting.continuous else 1
    while abs(large - small) > finest:
        middle = (small + large) / 2 if setting.continuous else (small + large) // 2
        bpp = tried(middle).bpp
        if setting.continuous and within_tolerance(bpp, target_bpp):
            break
        if bpp < target_bpp:
            small = middle
        else:
            large = middle
    else:
        tried(small)
        tried(large)
    nearest = min(trials.values(), key=lambda trial: abs(trial.bpp - target_bpp))
    rates = sorted(trials.values(), key=lambda trial: trial.bpp)
    if not within_tolerance(nearest.bpp, target_bpp) and not rates[0].bpp < target_bpp < rates[-1].bpp:
        ends = sorted((tried(setting.lowest), tried(setting.highest)), key=lambda trial: trial.bpp)
        raise UnreachableRateError(
            f"{codec.name} cannot code {picture} at {target_bpp:g} bpp: it has {ends[0].bpp:.4f} bpp at "
            f"{setting.name} {ends[0].value:g} to {ends[1].bpp:.4f} at {setting.name} {ends[1].value:g}. "
            "Choose --target_bpp between these, or leave the codec out."
        )
    return nearest
