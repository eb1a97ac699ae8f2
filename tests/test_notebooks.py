"""Notebooks keep what they showed, as the runner stores it, and run in a clean kernel."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook_runner", FOLDER / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def outputs(path: Path) -> list[dict[str, Any]]:
    return [output for cell in code_cells(path) for output in cell["outputs"]]


def test_there_are_notebooks_in_order() -> None:
    numbers = [int(path.stem[:2]) for path in NOTEBOOKS]
    assert len(numbers) > 0 and sorted(set(numbers)) == numbers


@each_notebook
def test_format(path: Path) -> None:
    """What nbformat 4.5 asks for; ids and metadata as the runner writes them."""
    book = read(path)
    nbformat.validate(nbformat.from_dict(book))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert book["metadata"] == runner().METADATA
    assert [cell["id"] for cell in book["cells"]] == [
        f"cell-{place:02d}" for place in range(len(book["cells"]))
    ]
    assert all(cell["metadata"] == {} for cell in book["cells"])
    assert book["cells"][0]["cell_type"] == "markdown"


@each_notebook
def test_short_cells(path: Path) -> None:
    """One idea a cell."""
    for cell in code_cells(path):
        assert 0 < len(cell["source"]) <= 12, "".join(cell["source"])


@each_notebook
def test_stored_as_executed_in_order(path: Path) -> None:
    counts = [cell["execution_count"] for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    for output in outputs(path):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
        assert output.get("execution_count", 1) in counts


@each_notebook
def test_every_figure_has_an_image(path: Path) -> None:
    plotly = runner().PLOTLY
    figures = [o["data"] for o in outputs(path) if {plotly, "image/png"} & set(o.get("data", {}))]
    assert len(figures) > 0
    assert all("image/png" in data for data in figures)


@each_notebook
def test_size_and_no_paths_of_a_machine(path: Path) -> None:
    assert path.stat().st_size <= runner().LARGEST_NOTEBOOK
    for output in outputs(path):
        shown = json.dumps(
            [
                output.get("text", ""),
                *(v for k, v in output.get("data", {}).items() if "text/" in k),
            ]
        )
        assert not re.search(r"(?<![\w.])/(home|root|tmp|Users)/", shown)


@each_notebook
def test_runs_in_a_clean_kernel(path: Path) -> None:
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, str(FOLDER / "run.py"), "--check", path.stem],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"{path.stem}: runs, ")
    assert path.read_bytes() == before


def book_of(*sources: str) -> Any:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells, metadata={"mine": 1})


def test_the_runner_starts_clean_and_tidies(tmp_path: Path) -> None:
    """Progress and settings of the caller do not show; ids and metadata do not depend on who ran it."""
    run = runner()
    book = book_of("import os\nprint(os.listdir())", "1 + 1")
    run.execute(book)
    run.tidy(book)
    assert [cell.id for cell in book.cells] == ["cell-00", "cell-01"]
    assert [cell.execution_count for cell in book.cells] == [1, 2]
    assert book.cells[0].outputs[0].text == "[]\n"
    assert book.cells[1].outputs[0].data == {"text/plain": "2"}
    assert book.metadata == run.METADATA
    with pytest.raises(run.CellExecutionError, match="ZeroDivisionError"):
        run.execute(book_of("1 / 0"))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"output_type": "stream", "name": "stderr", "text": "careful"}, "stderr: 'careful'"),
        (
            {"output_type": "stream", "name": "stdout", "text": f"{sys.prefix}/lib"},
            "shows the path",
        ),
        (
            {
                "output_type": "display_data",
                "metadata": {},
                "data": {"text/html": f"<b>{FOLDER.parent}/x</b>"},
            },
            "shows the path",
        ),
    ],
)
def test_the_runner_refuses_what_belongs_to_a_machine(output: dict[str, Any], said: str) -> None:
    run = runner()
    book = book_of("pass")
    book.cells[0].outputs = [nbformat.from_dict(output)]
    with pytest.raises(run.NotebookError, match=said):
        run.refuse_traces("some", book, "")
    book.cells[0].outputs = []
    run.refuse_traces("some", book, "x" * run.LARGEST_NOTEBOOK)
    with pytest.raises(run.NotebookError, match="show fewer or smaller figures"):
        run.refuse_traces("some", book, "x" * (run.LARGEST_NOTEBOOK + 1))


def test_an_unknown_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner().main(["--check", "00_nothing"]) == 1
    assert "There is no notebook '00_nothing'; there are 01_" in capsys.readouterr().err


def test_without_a_browser_nothing_is_executed_and_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/nowhere/chromium")
    run = runner()
    monkeypatch.setattr(run, "execute", lambda book: pytest.fail("executed"))
    assert run.main([NOTEBOOKS[0].stem]) == 1
    assert "none could be started" in capsys.readouterr().err
