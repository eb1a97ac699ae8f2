"""The architecture: imports go down only, importing costs nothing, the public list is true."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mechft

PACKAGE = Path(mechft.__file__).parent

# Each layer may import those of lower rank and itself. tasks and models share a rank: neither may
# import the other.
RANK = {
    "errors": 0,
    "files": 0,
    "randomness": 1,
    "statistics": 2,
    "tasks": 3,
    "models": 3,
    "training": 4,
    "analysis": 5,
    "shortcuts": 6,
    "plots": 6,
    "experiments": 7,
    "report": 8,
    "cli": 9,
    "usage": 9,
}


def _imports(path: Path) -> set[str]:
    """Top-level parts of mechft a file imports anywhere in it, for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["mechft.relative"]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("mechft.")}
        found |= {"root" for name in names if name == "mechft"}
    return found


def _imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for imported in _imports(path):
        assert imported in RANK, f"{path} imports {imported!r}; import modules by their full name"
        assert imported == layer or RANK[imported] < RANK[layer], f"{layer} imports {imported}"


def test_only_models_imports_transformer_lens_at_run_time() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        uses = any(
            any(name.startswith("transformer_lens") for name in _imported_names(node))
            and id(node) not in guarded
            for node in ast.walk(tree)
        )
        assert not uses or path.parent.name == "models", path


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import mechft", ("torch", "numpy", "pandas", "plotly", "transformer_lens")),
        ("import mechft.cli", ("torch", "pandas", "plotly", "transformer_lens")),
        ("import mechft.training.recipes", ("pandas", "plotly", "transformer_lens")),
    ],
)
def test_start_up_imports_nothing_heavy(statement: str, absent: tuple[str, ...]) -> None:
    code = f"{statement}; import sys; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_list_is_true() -> None:
    for name in mechft.__all__:
        assert getattr(mechft, name).__doc__, f"mechft.{name} has no docstring"
    with pytest.raises(AttributeError, match=r"has no 'prob'; it has .*probe"):
        mechft.prob  # noqa: B018
