"""A file server with and without ranges, and a small data set published as COCO is."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.preparation.releases import Archive, Release, Split


@dataclass
class Behaviour:
    """What a server does, and what it was asked for."""

    folder: Path
    ranges: bool = True
    length: bool = True
    """Whether it tells the length of files."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""
    states: list[int] = field(default_factory=list)
    """HTTP states of the next answers, before any file."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths and ranges."""
    url: str = ""


@contextmanager
def file_server(folder: Path, **options: Any) -> Iterator[Behaviour]:
    """Serve a folder on the loopback interface."""
    behaviour = Behaviour(folder, **options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            behaviour.asked.append((self.path, asked))
            path = behaviour.folder / self.path.lstrip("/")
            state = behaviour.states.pop(0) if behaviour.states else 200 if path.is_file() else 404
            if state != 200:
                self.send_error(state)
                return
            content = path.read_bytes()
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and behaviour.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if behaviour.length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cut = behaviour.cuts.pop(0) if behaviour.cuts else len(content)
            self.wfile.write(content[start : start + cut])

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    behaviour.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield behaviour
    finally:
        server.shutdown()
        server.server_close()


def published(folder: Path, path: str) -> Archive:
    """Describe a file as it is."""
    content = (folder / path).read_bytes()
    return Archive(path, len(content), hashlib.md5(content).hexdigest())


def photograph(number: int) -> bytes:
    """Return a small JPEG, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def photographs(split: str, count: int) -> dict[str, bytes]:
    """Return JPEGs by the names that COCO 2014 gives."""
    seed = {"train2014": 0, "val2014": 1000}[split]
    return {f"COCO_{split}_{seed + number:012d}.jpg": photograph(seed + number) for number in range(count)}


def annotations_of(images: dict[str, bytes], captions: int = 5) -> dict[str, Any]:
    """Annotate images as COCO does."""
    listed = []
    for number, (name, content) in enumerate(images.items()):
        with Image.open(io.BytesIO(content)) as image:
            listed.append({"id": number, "file_name": name, "width": image.width, "height": image.height})
    texts = [
        {"id": 10 * image["id"] + i, "image_id": image["id"], "caption": f"caption {i} of {image['file_name']}"}
        for image in listed
        for i in range(captions)
    ]
    return {"info": {}, "images": listed, "annotations": texts}


def publish(folder: Path, splits: dict[str, dict[str, bytes]], annotations: dict[str, Any] | None = None) -> Release:
    """Write zip files in COCO's official layout, and describe them.

    Args:
        folder: Becomes what the server serves.
        splits: Images by name, by `train2014` and so on.
        annotations: By split; None for those of `annotations_of`.
    """
    year = next(iter(splits))[-4:]
    notes = annotations or {split: annotations_of(images) for split, images in splits.items()}
    (folder / "zips").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for split, images in splits.items():
        with zipfile.ZipFile(folder / "zips" / f"{split}.zip", "w") as archive:
            archive.writestr(f"{split}/", "")
            for name, content in images.items():
                archive.writestr(f"{split}/{name}", content)
    with zipfile.ZipFile(
        folder / "annotations" / f"annotations_trainval{year}.zip", "w", zipfile.ZIP_DEFLATED
    ) as file:
        for split, content in notes.items():
            file.writestr(f"annotations/captions_{split}.json", json.dumps(content))
            file.writestr(f"annotations/instances_{split}.json", "{}")
    return Release(
        int(year),
        published(folder, f"annotations/annotations_trainval{year}.zip"),
        {
            split[:-4]: Split(
                split,
                published(folder, f"zips/{split}.zip"),
                images=len(images),
                captions=len(notes[split]["annotations"]),
            )
            for split, images in splits.items()
        },
    )
