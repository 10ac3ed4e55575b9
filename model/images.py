"""`python -m model.images`: a data set (.npz) of a folder of images, one folder inside it for each class."""

from __future__ import annotations

import io
from pathlib import Path

import click

from model.support.cli import FolderPath, Number, OutFile, command, make_console, progress_bar, tell
from model.support.errors import one_line
from model.support.files import write_file

__all__ = ["main"]

_MOST = 1024
"""Pixels a side at most: what a network for such devices takes is far smaller."""


@command(
    help="Make a data set (.npz) of a folder of images. FOLDER has a folder of images for each class, or has train/ and test/, "
    "each of which has. The middle of each image is cut to shape and scaled."
)
@click.argument("folder", type=FolderPath())
@click.option("--out", type=OutFile(".npz"), required=True, help="The .npz file to write.")
@click.option("--size", type=click.IntRange(1, _MOST), default=32, show_default=True, help="Height and width of a frame.")
@click.option("--width", type=click.IntRange(1, _MOST), help="Width of a frame, where it is not the height.")
@click.option("--grey", is_flag=True, help="One channel in place of red, green and blue.")
@click.option("--test-share", type=Number(0, 1, min_open=True, max_open=True), default=0.2, show_default=True,
              help="Share of each class's images that is for testing, where FOLDER has no train/ and test/.")  # fmt: skip
def main(folder: Path, out: Path, size: int, width: int | None, grey: bool, test_share: float) -> None:
    """See the help text above."""
    import numpy as np

    from model.support.image_folder import SPLITS, find_images

    found = find_images(folder)
    if found.passed_over:
        tell([f"{folder}: {found.passed_over:,} files are no images by their names, and are passed over"])
    with progress_bar(make_console(stderr=True)) as bar:
        files = bar.track(found.files, description=one_line(str(folder)))
        splits = found.splits(size, width or size, 1 if grey else 3, test_share=test_share, files=files)
    arrays: dict[str, np.ndarray] = {"classes": np.array(found.classes)}
    for name, split in splits.items():
        arrays |= {f"x_{name}": split.images, f"y_{name}": split.labels}
    written = io.BytesIO()
    np.savez_compressed(written, **arrays)  # type: ignore[arg-type]
    write_file(out, written.getvalue())
    shape = " x ".join(map(str, splits[SPLITS[0]].images.shape[1:]))
    counts = " and ".join(f"{len(split.labels):,} {name}" for name, split in splits.items())
    click.echo(one_line(f"{out}: {counts} frames of {shape}; {len(found.classes)} classes: {', '.join(found.classes)}"))


if __name__ == "__main__":
    main()
