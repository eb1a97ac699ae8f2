"""Figures become files: what each ending holds, and what is said when it cannot be made."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import plotly.graph_objects as go
import pytest

from mechft.errors import ConfigError
from mechft.plots.export import ExportError, save_figure
from mechft.training.trained import Trained

BROWSERS = ("chromium", "google-chrome", "chrome", "chromium-browser")


@pytest.fixture
def drawn() -> go.Figure:
    return go.Figure(go.Scatter(x=[0, 1], y=[1, 0]), layout={"height": 300, "title": "a line"})


def test_a_page_opens_offline(drawn: go.Figure, tmp_path: Path) -> None:
    path = tmp_path / "new" / "figure.html"
    assert save_figure(drawn, str(path)) == path
    page = path.read_text()
    assert "a line" in page and "Plotly.newPlot" in page and '<script src="http' not in page
    path.write_text("old")
    save_figure(drawn, path)
    assert path.read_text() == page or "a line" in path.read_text()


@pytest.mark.slow
def test_pictures(drawn: go.Figure, tmp_path: Path) -> None:
    pytest.importorskip("kaleido")
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("no Chrome or Chromium")
    png = save_figure(drawn, tmp_path / "a.png", scale=1).read_bytes()
    assert png[:4] == b"\x89PNG"
    assert [int.from_bytes(png[i : i + 4], "big") for i in (16, 20)] == [700, 300]
    svg = save_figure(drawn, tmp_path / "a.SVG", width=500, height=200).read_text()
    assert 'width="500"' in svg and 'height="200"' in svg and "a line" in svg
    assert save_figure(drawn, tmp_path / "a.pdf").read_bytes()[:5] == b"%PDF-"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What kaleido would be asked, in its stead."""

    class ChromeNotFoundError(Exception):
        pass

    asked: list[Any] = []

    def calc_fig_sync(figure: Any, opts: dict[str, Any], kopts: dict[str, Any]) -> bytes:
        asked.append((opts, kopts))
        if opts["width"] == 1:
            raise ChromeNotFoundError
        return b"picture"

    stand_in: Any = ModuleType("kaleido")
    stand_in.calc_fig_sync = calc_fig_sync
    monkeypatch.setitem(sys.modules, "kaleido", stand_in)
    errors: Any = SimpleNamespace(ChromeNotFoundError=ChromeNotFoundError)
    monkeypatch.setitem(sys.modules, "kaleido.errors", errors)
    return asked


def test_sizes(drawn: go.Figure, told: list[Any], trained: Trained, tmp_path: Path) -> None:
    assert save_figure(drawn, tmp_path / "a.png").read_bytes() == b"picture"
    save_figure(drawn, tmp_path / "a.pdf", width=900, height=500, scale=3)
    save_figure(go.Figure(), tmp_path / "a.svg")
    sizes = [tuple(opts.values()) for opts, _ in told]
    assert sizes == [("png", 700, 300, 2), ("pdf", 900, 500, 3), ("svg", 700, 450, 2)]
    assert all(kopts == {"mathjax": False} for _, kopts in told)  # or it would ask the network


def test_what_cannot_be_made(
    drawn: go.Figure, told: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"\.html, \.png, \.svg, \.pdf.*'a\.gif'"):
        save_figure(drawn, tmp_path / "a.gif")
    for size in ({"width": 0}, {"height": -1}, {"scale": 0.0}):
        with pytest.raises(ConfigError, match=f"The {next(iter(size))} .* positive"):
            save_figure(drawn, tmp_path / "a.png", **size)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no figure for dict"):
        save_figure({}, tmp_path / "a.html")
    with pytest.raises(ExportError, match=r"Chrome or Chromium.*\.html"):
        save_figure(drawn, tmp_path / "a.png", width=1)
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(ExportError, match=r'pip install "mechft\[images\]".*\.html'):
        save_figure(drawn, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []  # nothing is left behind
