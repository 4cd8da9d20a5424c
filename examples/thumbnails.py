"""Make thumbnails of a folder of pictures with Pillow, on all cores.

Only paths travel, and sizes come back; the pictures are read and written by the
workers.  Pillow is imported once and shared by them (``preload``), each may use
so much memory and each picture so much time, and a picture that is broken is
reported and stops nothing.

Here the pictures are made first.  It needs Pillow: ``python examples/thumbnails.py``,
or ``python examples/thumbnails.py FOLDER`` for pictures of yours; the thumbnails
go to a temporary folder, and are gone at the end.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from PIL import Image

from offloop import ProcessWorkerFactory, WorkerPool


def thumbnail(source: Path, folder: Path) -> tuple[int, int]:
    """The size of the thumbnail that was made of a picture."""
    with Image.open(source) as picture:
        picture.thumbnail((160, 160))
        picture.convert("RGB").save(folder / f"{source.stem}.jpg")
        return picture.size


def make_pictures(folder: Path) -> None:
    """Some pictures, and a file that only looks like one."""
    for number in range(1, 9):
        Image.linear_gradient("L").resize((200 * number, 400)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")


async def convert(sources: list[Path], target: Path) -> None:
    factory = ProcessWorkerFactory(preload=["PIL.Image"], memory_limit=4 << 30)
    made = 0
    async with WorkerPool(factory=factory) as pool:
        sizes = pool.map(thumbnail, sources, [target] * len(sources), timeout=60, return_exceptions=True)
        for source, size in zip(sources, await sizes, strict=True):
            if isinstance(size, Exception):
                print(f"{source.name}: {type(size).__name__}")
            else:
                print(f"{source.name}: {size[0]} x {size[1]}")
                made += 1
    print(made, "thumbnails")


def main() -> None:
    with tempfile.TemporaryDirectory() as pictures, tempfile.TemporaryDirectory() as target:
        if len(sys.argv) == 1:
            make_pictures(Path(pictures))
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else pictures)
        asyncio.run(convert(sorted(folder.iterdir()), Path(target)))


main()
