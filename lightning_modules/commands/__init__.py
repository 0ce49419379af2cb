"""Verbs that are not Trainer methods."""

from lightning_modules.commands import compress, decompress, sample
from lightning_modules.commands.verb import Verb

VERBS = {
    "compress": Verb("codes photographs to files", compress.main),
    "decompress": Verb("decodes files, or tells with --info what they hold", decompress.main),
    "sample": Verb("writes photographs to try things on", sample.main),
}
