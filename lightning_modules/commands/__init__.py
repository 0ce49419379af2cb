"""Verbs that are not Trainer methods."""

from lightning_modules.commands import (
    anchors,
    caption,
    compress,
    dashboard,
    decompress,
    digits_report,
    prepare,
    report,
    sample,
    streets_report,
    sweep,
)
from lightning_modules.commands.verb import Verb

VERBS = {
    "compress": Verb("codes photographs to files", compress.main),
    "decompress": Verb("decodes files, or tells with --info what they hold", decompress.main),
    "prepare": Verb("downloads COCO with captions, and packs captioned images into shards", prepare.main),
    "caption": Verb("captions photographs with OFA or another image-to-text model, resumably", caption.main),
    "sample": Verb("writes photographs to try things on", sample.main),
    "anchors": Verb("measures classical codecs on a dataset", anchors.main),
    "report": Verb("draws rate-distortion curves, BD tables and pictures from result records", report.main),
    "dashboard": Verb("makes or updates a W&B workspace and a report from a project's results", dashboard.main),
    "digits_report": Verb(
        "makes the tables and figures of the digits experiments from result records", digits_report.main
    ),
    "streets_report": Verb(
        "makes the tables, figures and pictures of the street-scenes experiments from result records",
        streets_report.main,
    ),
    "sweep": Verb("runs the grid of a W&B sweep file without a server, resumably", sweep.main),
}
