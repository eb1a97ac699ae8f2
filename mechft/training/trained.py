"""A model that remembers where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.errors import CheckpointError
from mechft.models.bundled import bundled_path
from mechft.models.checkpoint import load_checkpoint, save_checkpoint
from mechft.tasks.pcfg import PCFGTask
from mechft.training.loop import HISTORY_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import HookedTransformer


@dataclass(frozen=True)
class Trained:
    """A HookedTransformer with its task and history: what every recipe takes and returns.

    Attributes:
        model: The HookedTransformer.
        task: The task it was trained on.
        lineage: One entry per recipe it went through, oldest first: recipe, settings, final figures.
        records: The last recipe's evaluations during training; ``history`` has them as a frame.
        name: What tables and figures call it.
    """

    model: HookedTransformer
    task: PCFGTask
    lineage: tuple[dict[str, Any], ...] = ()
    records: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    name: str = "model"

    @property
    def history(self) -> pd.DataFrame:
        """One row per evaluation and moment of the last training; columns as ``train`` returns."""
        import pandas as pd

        return pd.DataFrame(list(self.records), columns=list(HISTORY_COLUMNS))

    def renamed(self, name: str) -> Trained:
        """The same model under another name for tables and figures."""
        return replace(self, name=name)

    def _repr_html_(self) -> str:
        steps = " → ".join(entry["recipe"] for entry in self.lineage) or "untrained"
        return f"<b>{self.name}</b>: {steps}<br>{self.history.tail(8).to_html(index=False)}"


def save(trained: Trained, path: str | Path) -> Path:
    """Write a trained model with its task, lineage, history and package versions to one file.

    Raises:
        FileExistsError: If the file exists; nothing is overwritten.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists and is not overwritten. Choose another name.")
    description = {
        "name": trained.name,
        "task": trained.task.to_dict(),
        "lineage": list(trained.lineage),
        "history": list(trained.records),
        "versions": package_versions(),
    }
    return save_checkpoint(path, trained.model, description)


def load(name_or_path: str | Path) -> Trained:
    """A bundled model by name, or one that ``save`` wrote by path.

    Args:
        name_or_path: "pcfg-tiny-low" and the like (``mechft zoo list``), or a ``.safetensors`` file.

    Raises:
        UnknownNameError: If it is neither a bundled name nor a file; lists the names.
        CheckpointError: If the file is truncated, foreign, or a run that has not finished.

    Cost: some seconds for the first call in a process (importing TransformerLens), then 0.1 s.
    """
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix == ".safetensors" or len(path.parts) > 1:
            raise CheckpointError(f"There is no checkpoint file at {path}.")
        path = bundled_path(str(name_or_path))
    found = load_checkpoint(path)
    if "task" not in found.description:
        raise CheckpointError(
            f"{path} is the checkpoint of a run in progress. Let the run finish (start it again with "
            "the same folder), then load what it saves."
        )
    description = found.description
    return Trained(
        found.model,
        PCFGTask.from_dict(description["task"]),
        tuple(description["lineage"]),
        tuple(description["history"]),
        description["name"],
    )


def package_versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {}
    for package in ("mechft", "torch", "transformer-lens", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[package] = "unknown"
    return found
