"""Examples run, and leave the files they promise."""

from __future__ import annotations

import ast
import inspect
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechft import usage

EXAMPLES = Path(__file__).parents[1] / "examples"
FIGURES = sorted(p for p in (EXAMPLES / "figures").glob("*.py") if p.name != "gallery.py")
SLOW = {"diagnosis", "revival", "ablation", "patching", "probing", "interpolation"}


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


def test_compiled_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In every string the compiled model's channel marks the fifth letter, and not the sixth."""
    runpy.run_path(str(EXAMPLES / "compiled_program.py"))["main"](20, rows=60, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "maps.html",
        "attention.html",
        "pruning.html",
        "patching.html",
        "revival.html",
    }
    shown = capsys.readouterr().out
    assert "abacab occurs ['$', 3, 2, 3, 1, 3, 2]" in shown
    assert '"times:3", letter by letter: [1, 0, 1, 0, 1, 0]' in shown
    assert "base: at the fifth letter in 100.0%" in shown and "at the sixth in 0.0%" in shown


def test_stories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The base has what the control never had; a few steps show only that it runs."""
    runpy.run_path(str(EXAMPLES / "stories.py"))["main"]("F+RR", 4, number=8, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"writing.html", "patching.html"}
    shown = capsys.readouterr().out
    assert "never: with a Conflict 0.0%" in shown and "without 100.0%" in shown
    assert "resid_pre 3" in shown


def test_compiled_program_without_tracr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a program of one's own needs Tracr."""
    monkeypatch.setitem(sys.modules, "tracr.rasp", None)
    runpy.run_path(str(EXAMPLES / "compiled_program.py"))["main"](2, rows=20, folder=tmp_path)
    shown = capsys.readouterr().out
    assert 'pip install "mechft[tracr]"' in shown and "Does training back" in shown


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_figure_examples_say_what_they_show_and_take(path: Path) -> None:
    words = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert "CPU second" in words
    assert f"Usage: python examples/figures/{path.name} [FILE.png]" in words


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in SLOW), id=p.stem) for p in FIGURES],
)
def test_figure_examples_run(path: Path, tmp_path: Path) -> None:
    """Each on few rows and steps, to a page, which needs no browser."""
    main: Any = runpy.run_path(str(path))["main"]
    small = {"rows": 40, "steps": 2}
    sizes = {name: small[name] for name in inspect.signature(main).parameters if name in small}
    assert main(tmp_path / "figure.html", **sizes) == tmp_path / "figure.html"
    assert "Plotly.newPlot" in (tmp_path / "figure.html").read_text()


def test_the_gallery_knows_every_example() -> None:
    gallery = runpy.run_path(str(EXAMPLES / "figures" / "gallery.py"))
    assert list(gallery["scripts"]()) == [path.stem for path in FIGURES]


SCRIPTS = [*FIGURES, *sorted(EXAMPLES.glob("*.py")), EXAMPLES / "figures" / "gallery.py"]


def asked(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script run from the command line; stderr holds what it imported, too."""
    command = [sys.executable, "-X", "importtime", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def nothing_slow(stderr: str) -> bool:
    """Whether nothing was imported that takes long, such as what all computing needs."""
    imported = {line.split("|")[-1].strip() for line in stderr.splitlines() if "|" in line}
    return "argparse" in imported and not {"torch", "pandas", "plotly", "transformers"} & imported


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_examples_answer_help_at_once(path: Path) -> None:
    """With their docstring and what can be given; what is not known is refused as fast."""
    help_ = asked(path, "--help")
    assert help_.returncode == 0 and nothing_slow(help_.stderr)
    words = ast.get_docstring(ast.parse(path.read_text())) or ""
    for line in words.splitlines():
        assert line.removeprefix("Usage:").strip() in help_.stdout
    unknown = asked(path, "--fast")
    assert unknown.returncode == 2 and nothing_slow(unknown.stderr)
    assert "--fast" in unknown.stderr or "required: STORE" in unknown.stderr


@pytest.mark.parametrize(
    ("script", "given", "answer"),
    [
        ("figures/probing", ["a.jpg"], "ends in .png, .svg, .pdf or .html; got 'a.jpg'"),
        ("figures/study", ["probing"], "got 'probing'"),
        ("figures/study", ["a.html", "b.html"], "unrecognized arguments: b.html"),
        ("figures/gallery", ["weights", "prob"], "No example 'prob'; there are ablation,"),
        ("where_the_wrapper_acts", ["nowhere"], "there is none at 'nowhere'"),
        ("compiled_program", ["--rows", "0"], "are at least 1; got 200 and 0"),
        ("your_first_look", ["300"], "unrecognized arguments: 300"),
    ],
)
def test_examples_refuse_what_they_cannot_use(script: str, given: list[str], answer: str) -> None:
    found = asked(EXAMPLES / f"{script}.py", *given)
    assert found.returncode == 2 and nothing_slow(found.stderr)
    assert answer in found.stderr


def test_a_picture_that_cannot_be_drawn_is_refused_before_it_is_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(usage, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["weights.py"])
    with pytest.raises(SystemExit) as caught:
        usage.run_figure(lambda path="weights.png": Path(path))
    assert caught.value.code == 2 and 'pip install "mechft[images]"' in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["weights.py", "weights.html"])
    usage.run_figure(lambda path="weights.png": Path(path))
    assert capsys.readouterr().out == "weights.html\n"
