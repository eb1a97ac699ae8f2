"""What a script answers to -h, and to arguments it cannot use, before anything slow is imported."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

_USAGE = "Usage: "


def script_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring; the script adds its arguments, if it has any.

    Call it under ``if __name__ == "__main__"``, above imports that take seconds. Like every parser it ends
    the script with exit code 2 if it is given what it does not know.

    Args:
        text: The docstring; one line of it reads "Usage: python FILE ...".
    """
    lines = (text or "").strip().splitlines()
    usage = next((line for line in lines if line.startswith(_USAGE)), None)
    return argparse.ArgumentParser(
        usage=usage and usage.removeprefix(_USAGE).replace("%", "%%"),
        description="\n".join(line for line in lines if line != usage).strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def run_figure(main: Callable[..., Path]) -> None:
    """Run a script that makes one figure, in the file named on the command line or in its usual one.

    A file that could not be written is refused before the figure is computed, with exit code 2.

    Args:
        main: The script's function; it takes the file as ``path``, whose default is the usual one.
    """
    from mechft.plots.export import PICTURES

    usual = inspect.signature(main).parameters["path"].default
    endings = f"{', '.join(PICTURES)} or .html"
    parser = script_parser(inspect.getdoc(inspect.getmodule(main)))
    parser.add_argument(
        "file", nargs="?", default=usual, metavar="FILE.png",
        help=f"where the figure goes, ending in {endings}; {usual} where you are if not given",
    )  # fmt: skip
    file = Path(parser.parse_args().file)
    if file.suffix.lower() not in (*PICTURES, ".html"):
        parser.error(f"A figure is a file that ends in {endings}; got {str(file)!r}.")
    if file.suffix.lower() in PICTURES and find_spec("kaleido") is None:
        parser.error(
            f"{str(file)!r} is a picture, which takes kaleido, and that is not installed: "
            'pip install "mechft[images]". Without it, name a file that ends in .html.'
        )
    print(main(file))
