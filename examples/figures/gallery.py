"""Makes the pictures of the README's gallery: every script of this folder, as a .png beside it.

Takes about 6 CPU minutes, most of them training back, the diagnosis and writing stories.
Needs pip install "mechft[notebooks]" and Chrome or Chromium.
Usage: python examples/figures/gallery.py [NAME ...]   (all by default)
"""

from __future__ import annotations

import runpy
import time
from argparse import ArgumentTypeError
from pathlib import Path

from mechft.usage import script_parser

HERE = Path(__file__).parent


def scripts() -> dict[str, Path]:
    """Every example of this folder by name."""
    return {path.stem: path for path in sorted(HERE.glob("*.py")) if path != Path(__file__)}


def example(name: str) -> str:
    """A name, once there is such an example."""
    if name not in scripts():
        raise ArgumentTypeError(f"No example {name!r}; there are {', '.join(scripts())}.")
    return name


def shrink(path: Path) -> None:
    """Keep 64 colours of a picture: figures have few, and a page of them should open at once."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def main(*names: str) -> None:
    """Make the pictures named, or all; says what each took."""
    known = scripts()
    for name in names or known:
        began = time.process_time()
        path = runpy.run_path(str(known[name]))["main"](HERE / f"{name}.png")
        shrink(path)
        seconds = time.process_time() - began
        print(
            f"{path.name}: {seconds:.0f} CPU seconds, {path.stat().st_size / 1000:.0f} kB",
            flush=True,
        )


if __name__ == "__main__":
    parser = script_parser(__doc__)
    parser.add_argument("names", nargs="*", type=example, metavar="NAME", help=", ".join(scripts()))
    main(*parser.parse_args().names)
