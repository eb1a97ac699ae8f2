"""Notebooks are clean files of format 4, and their code cells run in order from an empty namespace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import torch

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture
def same_threads() -> Iterator[None]:
    """Notebooks may ask torch for other threads; tests after them shall not notice."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def code_cells(path: Path) -> list[str]:
    return ["".join(c["source"]) for c in read(path)["cells"] if c["cell_type"] == "code"]


def test_there_are_notebooks() -> None:
    assert "compiled_programs.ipynb" in {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_format_and_no_outputs(path: Path) -> None:
    """What nbformat 4.5 asks of a file, and nothing left of a run: outputs would go stale."""
    book = read(path)
    assert set(book) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids) > 0
    for cell in book["cells"]:
        common = {"cell_type", "id", "metadata", "source"}
        assert cell["metadata"] == {}
        assert all(isinstance(line, str) for line in cell["source"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert set(cell) == common | {"execution_count", "outputs"}
            assert cell["execution_count"] is None and cell["outputs"] == []
        else:
            assert cell["cell_type"] == "markdown" and set(cell) == common


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, monkeypatch: pytest.MonkeyPatch, same_threads: None) -> None:
    """As a reader runs it, from the first cell to the last, with fewer steps and strings."""
    monkeypatch.setenv("MECHFT_QUICK", "1")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = code_cells(path)
    for number, source in enumerate(cells):
        exec(compile(source, f"{path.name}, code cell {number}", "exec"), namespace)
    shown = [source for source in cells if source.splitlines()[-1] == "figures[-1]"]
    figures = namespace["figures"]
    assert len(figures) == len(shown) > 0
    for figure in figures:
        assert isinstance(figure, go.Figure) and len(figure.data) > 0
