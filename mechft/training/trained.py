"""A model that remembers where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechft.errors import (
    CheckpointError,
    MechftError,
    OutputExistsError,
    require,
    unknown_name,
)
from mechft.models.build import clone
from mechft.models.bundled import bundled_path
from mechft.models.checkpoint import load_checkpoint, read_header, save_checkpoint
from mechft.models.hook_points import device_of
from mechft.tasks.contrast import Contrast
from mechft.tasks.task import KINDS, Task, task_from_dict
from mechft.training.run import HISTORY_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from transformer_lens import HookedTransformer

MODEL_FILE = "model.safetensors"  # what a finished recipe leaves in its folder


@dataclass(frozen=True)
class Trained:
    """A HookedTransformer with its task and history: what every recipe takes and returns.

    Attributes:
        model: The HookedTransformer.
        task: The task it was trained on.
        lineage: One entry per recipe it went through, oldest first: recipe, settings, final figures.
        records: The last recipe's evaluations during training; ``history`` has them as a frame.
        name: What tables and figures call it.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> base.name, base.contrast.pretraining_operand, base.contrast.finetuning_operand
        ('pcfg-tiny-low', 'a', 'b')
        >>> base.lineage[0]["recipe"]
        'pretrain'
        >>> {"step", "evaluation", "accuracy", "ci_low", "ci_high"} <= set(base.history.columns)
        True
        >>> base.renamed("mine").name
        'mine'
    """

    model: HookedTransformer
    task: Task
    lineage: tuple[dict[str, Any], ...] = ()
    records: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    name: str = "model"

    @property
    def history(self) -> pd.DataFrame:
        """One row per evaluation and moment of the last training; columns as ``train`` returns."""
        import pandas as pd

        return pd.DataFrame(list(self.records), columns=list(HISTORY_COLUMNS))

    @property
    def contrast(self) -> Contrast:
        """What the last fine-tuning set against what; the task's own (count a against b) if none did."""
        for entry in reversed(self.lineage):
            if entry["recipe"] == "finetune":
                return Contrast(
                    entry["family"],
                    entry["pretraining_operand"],
                    entry["operand"],
                    entry["offset"],
                )
        return self.task.contrast

    def revival(self, threshold: float = 0.95, evaluation: str = "acc_pt_cte0") -> int | None:
        """First evaluated step of the last training from which an accuracy stays at a threshold.

        Returns:
            The step, or None if the run ended below it.

        Raises:
            UnknownNameError: If the run did not measure ``evaluation``; lists what it did.
        """
        rows = [r for r in self.records if r["evaluation"] == evaluation]
        if not rows:
            known = dict.fromkeys(r["evaluation"] for r in self.records)
            raise unknown_name("evaluation", evaluation, known)
        return steps_to([r["step"] for r in rows], [r["accuracy"] for r in rows], threshold)

    def renamed(self, name: str) -> Trained:
        """The same model under another name for tables and figures."""
        return replace(self, name=name)

    def to(self, device: torch.device | str) -> Trained:
        """The same model on a device: itself if it is there already, else a copy."""
        if device_of(self.model) == torch.device(device):
            return self
        model = clone(self.model)
        model.to(device, print_details=False)
        return replace(self, model=model)

    def __repr__(self) -> str:
        weights = sum(weight.numel() for weight in self.model.parameters())
        return (
            f"<Trained {self.name!r}: {self._steps()}; {type(self.task).__name__}, {self.model.cfg.n_layers} "
            f"blocks, {weights:,} parameters>"
        )

    def _steps(self) -> str:
        return " → ".join(entry["recipe"] for entry in self.lineage) or "untrained"

    def _repr_html_(self) -> str:
        return f"<b>{self.name}</b>: {self._steps()}<br>{self.history.tail(8).to_html(index=False)}"


def steps_to(steps: Sequence[int], accuracies: Sequence[float], threshold: float) -> int | None:
    """The first of ``steps`` from which on no accuracy is below ``threshold``; None if the last is.

    Staying there is asked for because a single evaluation can pass a threshold by luck.
    """
    require(0 < threshold <= 1, f"A threshold is an accuracy in (0, 1]; got {threshold}.")
    reached = None
    for step, value in zip(steps, accuracies, strict=True):
        if value < threshold:
            reached = None
        elif reached is None:
            reached = int(step)
    return reached


def save(trained: Trained, path: str | Path) -> Path:
    """Write a trained model with its task, lineage, history and package versions to one file.

    Args:
        trained: What to write.
        path: The file; its folder is made if missing.

    Returns:
        The path.

    Raises:
        OutputExistsError: If the file exists; nothing is overwritten.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> path = mf.save(base, "models/mine.safetensors")
        >>> mf.load(path).lineage == base.lineage
        True
        >>> mf.save(base, path)
        Traceback (most recent call last):
        mechft.errors.OutputExistsError: models/mine.safetensors exists and is not overwritten. ...
    """
    path = Path(path)
    if path.exists():
        raise OutputExistsError(f"{path} exists and is not overwritten. Choose another name.")
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
        name_or_path: "pcfg-tiny-low" and the like (``mechft zoo list``), a file ``save`` wrote, or the
            ``directory`` of a recipe that has finished.

    Raises:
        UnknownNameError: If it is neither a bundled name nor a file; lists the names.
        CheckpointError: If the file is truncated, foreign, a run that has not finished, or holds a model of a
            task of your own whose class has not been defined or imported yet.

    Cost: some seconds for the first call in a process (importing TransformerLens), then 0.1 s.

    Example:
        >>> import mechft as mf
        >>> base = mf.load("pcfg-tiny-low")
        >>> base.model.cfg.n_layers, base.model.cfg.d_model
        (3, 128)
        >>> ft = mf.load("pcfg-tiny-low-to-b")  # fine-tuned to count b, C_Tr = 1
        >>> [entry["recipe"] for entry in ft.lineage]
        ['pretrain', 'finetune']
    """
    path = _file_of(name_or_path)
    found = load_checkpoint(path)
    description = found.description
    if "identity" in description:
        raise CheckpointError(
            f"{path} is the state of a training run. A finished run's folder holds {MODEL_FILE} beside "
            "it: load that, or the folder; start an unfinished one again to finish it."
        )
    _check_kind_known(path, description.get("task"))
    try:
        task = task_from_dict(description["task"])
        trained = Trained(
            found.model,
            task,
            tuple(description["lineage"]),
            tuple(description["history"]),
            description["name"],
        )
    except (KeyError, TypeError, MechftError) as error:
        raise CheckpointError(
            f"{path} holds weights but not the task and history that save() writes with them "
            f"({error}). For what needs no task, open it: mechft.open_model."
        ) from error
    cfg = found.model.cfg
    sizes = (cfg.d_vocab, cfg.d_vocab_out, cfg.n_ctx)
    wanted = (len(task.vocabulary), len(task.answer_vocabulary), task.n_ctx)
    if sizes[:2] != wanted[:2] or sizes[2] < wanted[2]:
        raise CheckpointError(
            f"{path}: its model reads {sizes[0]} tokens, predicts {sizes[1]} and takes inputs of "
            f"{sizes[2]}; its task needs {wanted[0]}, {wanted[1]} and {wanted[2]}. They were not made "
            "for each other."
        )
    return trained


def load_task(name_or_path: str | Path) -> Task | None:
    """The task of a model, its weights unread; None where its file tells of none that can be read.

    Args:
        name_or_path: As ``load``.

    Raises:
        UnknownNameError, CheckpointError: If there is no such model, or its file is no checkpoint.

    Cost: reading a header.
    """
    description = read_header(_file_of(name_or_path))["description"]
    try:
        return task_from_dict(description["task"])
    except (KeyError, TypeError, MechftError):
        return None


def _file_of(name_or_path: str | Path) -> Path:
    """The file of a saved or bundled model."""
    path = Path(name_or_path)
    if path.is_dir() and (path / MODEL_FILE).is_file():
        path = path / MODEL_FILE
    if path.is_file():
        return path
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        raise CheckpointError(
            f"There is no checkpoint file at {path}, nor a finished run's {MODEL_FILE} in it."
        )
    return bundled_path(str(name_or_path))


def _check_kind_known(path: Path, task: object) -> None:
    """A task of one's own can be read only where its class is."""
    kind = task.get("kind") if isinstance(task, dict) else None
    if kind is not None and kind not in KINDS:
        raise CheckpointError(
            f"{path} holds a model of a task of kind {kind!r}, and no class of that kind is known here "
            f"(known: {', '.join(KINDS)}). Define or import the task's class first; one that is no subclass "
            "of OwnTask needs @register_task, too."
        )


def package_versions(*more: str) -> dict[str, str]:
    """Versions of what a result depends on; those of ``more`` packages where they are installed."""
    found = {}
    for package in ("mechft", "torch", "transformer-lens", "numpy", *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if package not in more:  # mechft, run from a source tree that is not installed
                found[package] = "unknown"
    return found
