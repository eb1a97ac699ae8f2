"""Docstrings of everything public: complete, and every example in them does what it says."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mechft
from mechft.tasks.task import KINDS
from mechft.training import trained

PACKAGE = Path(mechft.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NEEDS = {"compile_program": "tracr", "compile_task": "tracr", "WandbLog": "wandb"}
"""Examples that need a package of an extra."""


def _doc(name: str) -> str:
    return inspect.getdoc(getattr(mechft, name)) or ""


def _section(doc: str, *titles: str) -> str:
    """The lines under a heading of a docstring, without their common indent; empty if there is none."""
    for title in titles:
        found = re.search(rf"^{title}:\n((?:[ ]+.*\n|\n)+)", doc + "\n", re.MULTILINE)
        if found:
            return textwrap.dedent(found[1])
    return ""


@cache
def _bundled(name: str) -> Any:
    return trained.load(name)


def _load(name_or_path: str | Path) -> Any:
    """``mf.load``, reading a bundled model once for all examples, which leave it as it was."""
    known = str(name_or_path) in mechft.manifest()
    return _bundled(str(name_or_path)) if known else trained.load(name_or_path)


@pytest.fixture
def own_kinds() -> Iterator[None]:
    """Tasks that an example defines are forgotten after it."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


@pytest.mark.usefixtures("own_kinds")
@pytest.mark.parametrize("name", mechft.__all__)
def test_example_does_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)  # some write files
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    globs = {"__name__": "__main__"}
    parsed = doctest.DocTestParser().get_doctest(_doc(name), globs, f"mechft.{name}", None, 0)
    assert parsed.examples, f"The docstring of mechft.{name} has no example (>>> …)."
    assert "import mechft as mf" in _doc(name), "a reader can copy the example as it stands"
    monkeypatch.setattr(mechft, "load", _load)
    said: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(parsed, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", mechft.__all__)
def test_begins_with_a_sentence(name: str) -> None:
    first, _, rest = _doc(name).partition("\n")
    assert re.match(r"[A-Z].*[.?]$", first), f"mechft.{name} begins: {first}"
    assert not rest or rest.startswith("\n"), "an empty line sets it off"


@pytest.mark.parametrize("name", mechft.__all__)
def test_every_argument_is_described(name: str) -> None:
    """Arguments of functions and fields of dataclasses, each once, and no others."""
    public = getattr(mechft, name)
    if dataclasses.is_dataclass(public):
        wanted = [field.name for field in dataclasses.fields(public)]
    elif inspect.isclass(public) and "__init__" not in vars(public):
        wanted = []
    else:
        wanted = list(inspect.signature(public).parameters)
    listed = _section(_doc(name), "Args", "Attributes")
    names = re.findall(r"^(\w+(?:,\s+\w+)*):", listed, re.MULTILINE)
    described = [one for group in names for one in re.split(r",\s+", group)]
    if inspect.isclass(public):  # class attributes and properties are told of, too
        assert set(wanted) <= set(described)
    else:
        assert sorted(described) == sorted(wanted)


@pytest.mark.parametrize("name", mechft.__all__)
def test_what_it_raises_is_told(name: str) -> None:
    """Where the body raises, or requires, without a detour."""
    public = getattr(mechft, name)
    body = public
    if inspect.isclass(public):
        body = vars(public).get("__post_init__" if dataclasses.is_dataclass(public) else "__init__")
    if body is None:
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(body))))
    raises = any(
        (isinstance(node, ast.Raise) and node.exc is not None)
        or (isinstance(node, ast.Call) and ast.unparse(node.func) == "require")
        for node in ast.walk(tree)
    )
    assert not raises or _section(_doc(name), "Raises")


def test_no_example_goes_unchecked() -> None:
    """Examples stand in docstrings of what is public, which the test above runs."""
    run = {(getattr(mechft, name).__module__, name) for name in mechft.__all__}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(text)) if ">>>" in text else ():
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            if ">>>" in (ast.get_docstring(node) or ""):
                assert (module, getattr(node, "name", "")) in run
