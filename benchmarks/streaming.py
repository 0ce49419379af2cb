"""Memory of a stream's workers: a set of shards larger than memory should need is streamed once, and watched.

    python benchmarks/streaming.py --gigabytes 5 --shards 64 --format parquet

The shards are made first, of noisy JPEGs of about 150 kB as COCO's are, each row with five captions, and deleted in
the end. What is printed is the largest resident memory of each process, beside the bytes of the encoded images in its
two blocks.
"""

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from datamodules.preparation.shard_index import Format
from datamodules.preparation.shards import write_shards
from datamodules.samples import Sample
from datamodules.streaming import StreamingCaptionsDataModule

LIMIT_GIB = 1.5


def make(folder: Path, gigabytes: float, shards: int, kind: Format) -> int:
    """Write the shards; gives the number of images."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    photograph = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    photograph.save(buffer, "JPEG", quality=92)
    folder.mkdir(parents=True)
    image = folder / "photograph.jpg"
    image.write_bytes(buffer.getvalue())
    count = int(gigabytes * 1e9 / len(buffer.getvalue()))
    captions = tuple(f"a photograph of noise, told in words number {number}" for number in range(5))
    samples = [Sample(f"{number:08d}.jpg", image, captions) for number in range(count)]
    write_shards(samples, folder / "shards", kind, shards)
    return count


def main() -> None:
    """Make, stream, print, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the encoded images (default 5)")
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--format", choices=("parquet", "webdataset"), default="parquet")
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--decode", choices=("exact", "fast"), default="exact")
    parser.add_argument("--folder", type=Path, help="where to put the shards (default: a temporary folder)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        count = make(folder / "set", options.gigabytes, options.shards, options.format)
        data = StreamingCaptionsDataModule(
            str(folder / "set" / "shards"),
            caption_column="captions" if options.format == "parquet" else "json.captions",
            image_column="image" if options.format == "parquet" else "jpg",
            samples_per_epoch=count,
            captions="random",
            num_workers=options.num_workers,
            decode=options.decode,
        )
        largest: dict[int, int] = {}
        names: set[str] = set()
        own = psutil.Process()
        start = time.perf_counter()
        for number, batch in enumerate(data.train_dataloader()):
            names.update(batch["name"])
            if number % 200 == 0:
                for process in (own, *own.children(recursive=True)):
                    largest[process.pid] = max(largest.get(process.pid, 0), process.memory_info().rss)
        seconds = time.perf_counter() - start
        workers = [rss for pid, rss in largest.items() if pid != own.pid]
        print(f"{count} images, {options.gigabytes:.1f} GB in {options.shards} {options.format} shards")
        print(
            f"streamed {len(names)} distinct images at {count / seconds:.0f} images/s with {options.num_workers} "
            "workers"
        )
        print(
            f"largest resident memory: main process {largest[own.pid] / 2**30:.2f} GiB, workers "
            + (", ".join(f"{rss / 2**30:.2f} GiB" for rss in workers) or "none")
        )
        print(
            "within" if max(largest.values()) < LIMIT_GIB * 2**30 else "OVER",
            f"the limit of {LIMIT_GIB} GiB per process",
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
