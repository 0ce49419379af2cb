"""Titles, units, directions and digits of the figures that a report shows."""

import re
from collections.abc import Iterable

from callbacks import names
from callbacks.names import lpips_name
from lightning_modules.reports.model import Curve, Figure

MS_SSIM_DB = "ms_ssim_db"
"""-10 log10(1 - MS-SSIM), in some published files."""

KNOWN = (
    Figure(names.PSNR, "PSNR", "dB", True),
    Figure(names.MSE, "MSE", "", False),
    Figure(names.MS_SSIM, "MS-SSIM", "", True),
    Figure(MS_SSIM_DB, "MS-SSIM", "dB", True),
    Figure(lpips_name("alex", "[-1,1]"), "LPIPS (AlexNet)", "", False),
    Figure(lpips_name("vgg", "[-1,1]"), "LPIPS (VGG)", "", False),
    Figure(lpips_name("alex", "[0,1]"), "LPIPS (AlexNet, fed [0, 1])", "", False),
    Figure(lpips_name("vgg", "[0,1]"), "LPIPS (VGG, fed [0, 1])", "", False),
    Figure(names.DISTS, "DISTS", "", False),
    Figure(names.PIEAPP, "PieAPP", "", False),
    Figure(names.FID, "FID", "", False),
    Figure(names.KID, "KID", "", False),
    Figure(names.CMMD, "CMMD", "", False),
    Figure(names.CONFID, "ConFID", "", False),
    Figure(names.ACCURACY, "Accuracy", "", True),
    Figure(names.MIOU, "mIoU", "", True),
    Figure(names.BLEU_4, "BLEU-4", "", True),
    Figure(names.CIDER_D, "CIDEr-D", "", True),
    Figure(names.SPICE, "SPICE", "", True),
)
"""In the order in which a report shows them; the units are those of our callbacks."""

COMPANIONS = {
    names.KID: Figure(names.KID_STD, "standard deviation of KID", "", None),
    names.CONFID: Figure(names.CONFID_FLOOR, "floor of ConFID", "", None),
}
"""What stands beside a figure and is no figure of quality itself."""

DIGITS = {"dB": 2, "ms": 1, "%": 2, "bit/pixel": 4}
"""Unit -> decimals."""
DIGITS_OF_FIGURE = {names.FID: 2, names.CONFID: 2, names.MSE: 6}
DIGITS_WITHOUT_UNIT = 4


def is_cost(name: str) -> bool:
    """Whether a figure is a rate or a time: what coding costs, not how good the picture is."""
    return name == names.BPP or name.startswith(f"{names.BPP}_") or name in (names.ENCODE_MS, names.DECODE_MS)


def figures_of(curves: Iterable[Curve]) -> list[Figure]:
    """The figures of quality that at least one point has: known ones first, then others by name.

    Rates and times are not among them (see `is_cost`); they are on the other axis and in the table of costs. Nor are
    the companions of a figure (see `companion`). Unit and direction are the records' own where there are records. A
    figure that no callback here has measured (in CompressAI's files) is titled by its name and has no direction.
    """
    curves = list(curves)
    points = [point for curve in curves for point in curve.points]
    present = {name for point in points for name in point.figures if not is_cost(name) and not _accompanies(name)}
    stated = {
        name: protocol
        for point in reversed(points)
        if point.record is not None
        for name, protocol in point.record["protocols"].items()
    }
    order = [figure.name for figure in KNOWN]
    ordered = sorted(present, key=lambda name: (order.index(base) if (base := _base(name)) else len(order), name))
    return [_describe(_figure(name), stated.get(name)) for name in ordered]


def companion(figure: Figure) -> Figure | None:
    """The spread of KID, the real-versus-real floor of ConFID; with the same extractor."""
    for name, beside in COMPANIONS.items():
        if figure.name == name or figure.name.startswith(f"{name}_"):
            return Figure(beside.name + figure.name.removeprefix(name), beside.title, beside.unit, None)
    return None


def title_of(name: str) -> str:
    """Title of a figure of any name, for example "FID (clip vit l14 336)", or the name itself."""
    return _figure(name).title


def digits_of(figure: Figure) -> int:
    """Decimals in tables: enough to tell two codecs apart, few enough to read."""
    return DIGITS_OF_FIGURE.get(_base(figure.name), DIGITS.get(figure.unit, DIGITS_WITHOUT_UNIT))


def _accompanies(name: str) -> bool:
    return any(name == beside.name or name.startswith(f"{beside.name}_") for beside in COMPANIONS.values())


def _base(name: str) -> str:
    """The known figure that a name is a variant of ("fid" of "fid_patch256"), or ""."""
    return max((f.name for f in KNOWN if name == f.name or name.startswith(f"{f.name}_")), key=len, default="")


def _figure(name: str) -> Figure:
    base = next((figure for figure in KNOWN if figure.name == _base(name)), None)
    if base is None:
        return Figure(name, name, "", None)
    variant = name.removeprefix(base.name)
    # FID/256 is the literature's name for FID over patches of 256 pixels.
    title = re.sub(r"^_patch(\d+)", r"/\1", variant)
    head, _, rest = title.partition("_")
    words = f" ({rest.replace('_', ' ')})" if rest else ""
    return Figure(name, base.title + head + words, base.unit, base.higher_is_better)


def _describe(figure: Figure, protocol: dict | None) -> Figure:
    if protocol is None:
        return figure
    return Figure(figure.name, figure.title, protocol["unit"], protocol["higher_is_better"])
