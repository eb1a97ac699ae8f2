"""Examples run, and leave the files they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_your_first_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLES / "your_first_look.py"))["main"]
    main(steps=2, rows=100, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "probe.html",
        "prune.html",
        "revival.html",
    }
    assert "Is the count of a still linearly readable" in capsys.readouterr().out


def test_hugging_face_pair(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "hugging_face_pair.py"))["main"](rows=30)
    shown = capsys.readouterr().out
    assert "mlp_out 1" in shown and "recovered" in shown
