"""RGB and YCbCr of ITU-R BT.709, full range, 8 bits, without chroma subsampling: what VTM and HM are fed.

The equations are those of ITU-T H.273 for `VideoFullRangeFlag` 1 and `MatrixCoefficients` 1.
"""

import numpy as np
import numpy.typing as npt

from lightning_modules.classical.codec import Pixels

KR, KB = 0.2126, 0.0722
"""Weights of red and blue in luma (ITU-R BT.709-6, item 3.2); green has the rest."""

Planes = npt.NDArray[np.uint8]
"""uint8 (3, H, W): Y, Cb, Cr, zero chroma being 128."""


def rgb_to_ycbcr(pixels: Pixels) -> Planes:
    """Planes of a picture, rounded to the nearest level.

    Args:
        pixels: uint8 (H, W, 3), RGB.
    """
    r, g, b = np.moveaxis(pixels.astype(np.float64), -1, 0)
    y = KR * r + (1 - KR - KB) * g + KB * b
    cb = 128 + (b - y) / (2 - 2 * KB)
    cr = 128 + (r - y) / (2 - 2 * KR)
    return _to_8_bit(np.stack([y, cb, cr]))


def ycbcr_to_rgb(planes: Planes) -> Pixels:
    """The picture of planes, clamped and rounded to the nearest level.

    Args:
        planes: uint8 (3, H, W).

    Returns:
        uint8 (H, W, 3), RGB.
    """
    y, cb, cr = planes.astype(np.float64)
    r = y + (2 - 2 * KR) * (cr - 128)
    b = y + (2 - 2 * KB) * (cb - 128)
    g = (y - KR * r - KB * b) / (1 - KR - KB)
    return _to_8_bit(np.stack([r, g, b], axis=-1))


def _to_8_bit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    return np.rint(values.clip(0, 255)).astype(np.uint8)
