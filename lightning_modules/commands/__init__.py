"""Verbs that are not Trainer methods: each is the module of its name, whose `main` takes the arguments after it."""

VERBS = {
    "compress": "codes photographs to files",
    "decompress": "decodes files, or tells with --info what they hold",
    "prepare": "downloads COCO with captions, and packs captioned images into shards",
    "caption": "captions photographs with OFA or another image-to-text model, resumably",
    "sample": "writes photographs to try things on",
    "anchors": "measures classical codecs on a dataset",
    "report": "draws rate-distortion curves, BD tables and pictures from result records",
    "dashboard": "makes or updates a W&B workspace and a report from a project's results",
    "digits_report": "makes the tables and figures of the digits experiments from result records",
    "streets_report": "makes the tables, figures and pictures of the street-scenes experiments from result records",
    "sweep": "runs the grid of a W&B sweep file without a server, resumably",
}
"""What each does. None is imported until it is run: most need neither torch nor what the others need."""
