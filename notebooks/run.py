"""Executes notebooks in a clean kernel and stores what they show.

    python notebooks/run.py                    all notebooks of this folder, their outputs stored
    python notebooks/run.py 01_quickstart …    some of them
    python notebooks/run.py --check …          only see that every cell runs; nothing is written

How a notebook is made: write its cells (in Jupyter, or any editor), without outputs if you like, and run
this on it. It starts a kernel with none of your IPython settings in an empty folder, without network access
for Hugging Face and with one thread, executes the cells in order, and stores:

- figures twice: as plotly's JSON, which Jupyter draws live, and as a PNG for pages that show files. A figure
  whose JSON is larger than 100 kB is kept as a PNG only. PNGs are made after the cells have run, so that
  ``--check`` needs no browser;
- everything else as the cells showed it. What belongs to a machine is refused: text on stderr, paths of
  folders here, more than 600 kB. Progress bars are off;
- cell ids by place, execution counts from 1, no metadata but the language.

Needs ``pip install "mechft[notebooks]"``, and Chrome or Chromium to store figures.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
PLOTLY = "application/vnd.plotly.v1+json"
WIDTH, SCALE = 760, 1.5  # of PNGs: the width of a notebook's output, and sharp on most screens
COLOURS = 256  # of PNGs
LARGEST_FIGURE, LARGEST_NOTEBOOK = 100_000, 600_000  # bytes
CELL_LIMIT = 900  # seconds; a busy machine is slow
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_KERNEL = {
    "PLOTLY_RENDERER": "plotly_mimetype",
    "TQDM_DISABLE": "1",
    "OMP_NUM_THREADS": "1",  # the same sums in the same order
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's, where Jupyter has no widgets
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger's warning on stderr
}


class NotebookError(Exception):
    """A notebook that cannot be stored as it is."""


def execute(book: Any) -> float:
    """Execute all cells in place, in a kernel of their own.

    Returns:
        CPU seconds of the kernel.

    Raises:
        CellExecutionError: If a cell raises.
    """
    before = _children_seconds()
    with tempfile.TemporaryDirectory() as settings, tempfile.TemporaryDirectory() as work:
        client = NotebookClient(
            book,
            timeout=CELL_LIMIT,
            startup_timeout=CELL_LIMIT,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=40"],
            resources={"metadata": {"path": work}},
        )
        client.execute(env={**os.environ, **_KERNEL, "IPYTHONDIR": settings})
    return _children_seconds() - before


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tidy(book: Any) -> None:
    """Ids by place, no metadata of machine or moment, output text in one piece; in place."""
    book.metadata = nbformat.from_dict(METADATA)
    book.nbformat, book.nbformat_minor = 4, 5
    for place, cell in enumerate(book.cells):
        cell.id, cell.metadata = f"cell-{place:02d}", nbformat.from_dict({})
        if cell.cell_type != "code":
            cell.pop("attachments", None)
            continue
        for output in cell.outputs:
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = nbformat.from_dict({})


def add_images(book: Any) -> None:
    """Give every figure a PNG; in place. Leaves out plotly's JSON where it is large."""
    import plotly.graph_objects as go

    for cell in book.cells:
        for output in cell.get("outputs", []):
            drawn = output.get("data", {}).get(PLOTLY)
            if drawn is None:
                continue
            figure = go.Figure({"data": drawn["data"], "layout": drawn["layout"]})
            data = {"image/png": base64.b64encode(_png(figure)).decode()}
            if len(json.dumps(drawn)) <= LARGEST_FIGURE:
                data[PLOTLY] = drawn
            output.data = nbformat.from_dict(data)


def _png(figure: Any) -> bytes:
    """The figure as a PNG of at most 256 colours, about half as large as the browser's."""
    import kaleido
    from PIL import Image

    size = {"width": figure.layout.width or WIDTH, "height": figure.layout.height or 400}
    drawn = kaleido.calc_fig_sync(figure, opts={"format": "png", "scale": SCALE, **size})
    smaller = io.BytesIO()
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    image.quantize(COLOURS).save(smaller, "png", optimize=True)
    return smaller.getvalue()


@contextmanager
def browser() -> Iterator[None]:
    """One browser for all figures.

    Raises:
        NotebookError: If there is none, or no kaleido; before anything is executed.
    """
    try:
        import kaleido
        import plotly.graph_objects as go

        _png(go.Figure())  # in a browser of its own: the server would wait for one for ever
    except ImportError as error:
        raise NotebookError(f'{error}. Install them: pip install "mechft[notebooks]"') from error
    except Exception as error:  # kaleido and its launcher raise classes of their own
        raise NotebookError(
            f"Figures are stored as PNG by a browser, and none could be started ({error}). Install Chromium "
            "(apt install chromium) or Chrome, or only check the notebooks: --check."
        ) from error
    kaleido.start_sync_server(silence_warnings=True)
    try:
        yield
    finally:
        kaleido.stop_sync_server(silence_warnings=True)


def refuse_traces(name: str, book: Any, text: str) -> None:
    """Nothing of a machine is stored: see the module's docstring.

    Raises:
        NotebookError: If there is such a thing; says in which cell.
    """
    places = {str(Path.home()), str(FOLDER.parent), sys.prefix, tempfile.gettempdir()} - {"/"}
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise NotebookError(
                    f"{name}, {cell.id} writes to stderr: {output.text.strip()[:400]!r}. "
                    "Mend what it warns of."
                )
            shown = json.dumps({k: v for k, v in output.items() if k != "data"})
            shown += json.dumps(
                {k: v for k, v in output.get("data", {}).items() if k[:5] == "text/"}
            )
            for place in places:
                if f"{place}/" in shown:
                    raise NotebookError(
                        f"{name}, {cell.id} shows the path {place}; show less of it."
                    )
    if len(text) > LARGEST_NOTEBOOK:
        raise NotebookError(
            f"{name} has {len(text):,} bytes, more than {LARGEST_NOTEBOOK:,}; show fewer or smaller figures."
        )


def store(path: Path) -> str:
    """Execute a notebook and write it with its outputs; returns what to say about it."""
    book = nbformat.read(path, as_version=4)
    seconds = execute(book)
    tidy(book)
    add_images(book)
    nbformat.validate(book)
    text = nbformat.writes(book) + "\n"
    refuse_traces(path.name, book, text)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    figures = text.count('"image/png"')
    return (
        f"{len(book.cells)} cells, {figures} figures, {len(text) // 1000} kB, {seconds:.0f} s CPU"
    )


def check(path: Path) -> str:
    """Execute a notebook and forget the outputs; returns what to say about it."""
    seconds = execute(nbformat.read(path, as_version=4))
    return f"runs, {seconds:.0f} s CPU"


def chosen(names: list[str]) -> list[Path]:
    """The notebooks of these names (of all, if none is named), with or without ``.ipynb``."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    stems = [Path(name).stem for name in names] or list(known)
    unknown = [stem for stem in stems if stem not in known]
    if unknown:
        raise NotebookError(f"There is no notebook {unknown[0]!r}; there are {', '.join(known)}.")
    return [known[stem] for stem in stems]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks; all by default")
    parser.add_argument("--check", action="store_true", help="execute, and write nothing")
    told = parser.parse_args(arguments)
    try:
        paths = chosen(told.names)
        if told.check:
            for path in paths:
                print(f"{path.stem}: {check(path)}", flush=True)
            return 0
        with browser():
            for path in paths:
                print(f"{path.stem}: {store(path)}", flush=True)
    except (NotebookError, CellExecutionError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
