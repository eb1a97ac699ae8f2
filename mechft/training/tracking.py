"""Trackers of training runs: a table on disk, and Weights & Biases.

Both are callbacks, so that every recipe takes them::

    mf.finetune(base, "b", callbacks=[TableLog("log.csv"), WandbLog("what-finetuning-does")])
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from mechft.errors import ConfigError, OutputExistsError, require
from mechft.randomness import preserved_random_state
from mechft.statistics import Proportion
from mechft.training.callbacks import Callback
from mechft.training.config import TrainConfig
from mechft.training.run import HISTORY_COLUMNS, evaluation_records
from mechft.training.table_file import TableFile

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class TableLog(Callback):
    """Writes a run's steps and evaluations to a CSV or JSONL file, a row each, as they happen.

    Columns: run (what the recipe calls the model), then those of ``Trained.history``. A step's row has no
    evaluation; ``train_loss`` is the loss that step descended. Every row is in the file before the next
    step begins.

    A resumed run goes on in its file: rows of steps after the checkpoint, which are taken again, are removed
    first, so that each is there once. Several runs may share a file one after the other, under
    different names; two processes must not.

    Args:
        path: The file, ``.csv`` or ``.jsonl``; its folder is made if missing.
        every: Steps between rows of steps; evaluations are always written. 0 writes evaluations only.

    Raises:
        ConfigError: If the file's name ends otherwise, or ``every`` is negative.
        OutputExistsError: When a run begins: if the file is no such table, or holds another run of this
            name. It is left as it is.

    Warns:
        UserWarning: When a run begins: if it was killed before its first checkpoint, so that its rows are
            replaced; or if steps before the checkpoint are not in the file.

    Cost: about 12 µs a row.

    Example:
        >>> import pandas as pd
        >>> import mechft as mf
        >>> base, log = mf.load("pcfg-tiny-low"), mf.TableLog("run/log.csv")
        >>> ft = mf.finetune(base, "b", steps=3, batch_size=8, evaluation_size=20, callbacks=[log])
        >>> table = pd.read_csv("run/log.csv")
        >>> losses = table[table["evaluation"].isna()]
        >>> losses["step"].tolist()
        [1, 2, 3]
    """

    def __init__(self, path: str | Path, every: int = 1) -> None:
        require(
            every >= 0,
            f"every is the number of steps between rows, or 0 for evaluations only; got {every}.",
        )
        self.every = every
        self._file = TableFile(path, ("run", *HISTORY_COLUMNS))
        self._stream: IO[str] | None = None
        self._loss = math.nan

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def began(self, label: str, config: TrainConfig, step: int) -> None:
        """Open the file, without what this run will tell again."""
        self._run, self._config, self._loss = label, config, math.nan
        rows = self._file.read()
        own = [int(row["step"]) for row in rows if row["run"] == label]
        if own:
            self._check_same_run(max(own), step)
            # Begun at 0, a run measures itself before the first step once more.
            last = step if step > 0 else -1
            kept = [row for row in rows if row["run"] != label or int(row["step"]) <= last]
            if len(kept) < len(rows):
                self._file.replace(kept)
        logged = max(own, default=0)
        if self.every and logged + self.every <= step:
            warnings.warn(
                f"{self.path} has rows of {label} up to step {logged}, and the run goes on after step "
                f"{step}: the steps between were not logged.",
                stacklevel=2,
            )
        self._stream = self._file.open()

    def _check_same_run(self, last: int, step: int) -> None:
        """Whether rows up to step ``last`` can be those of the run that begins after ``step``."""
        if step > 0:
            return
        if last > self._config.checkpoint_every or last >= self._config.steps:
            raise OutputExistsError(
                f"{self.path} holds rows of {self._run} up to step {last}, and this run of that name begins "
                "at step 0: they are another run's. They were left as they are. Give another path, "
                "another name= to the recipe, or remove the file; a run that is to go on needs directory=."
            )
        warnings.warn(
            f"{self.path} holds rows of {self._run} up to step {last}, from before its first checkpoint; it "
            "begins anew, and they are replaced.",
            stacklevel=3,
        )

    def stepped(self, step: int, loss: float) -> None:
        """Write the step's row, if it is its turn."""
        self._loss = loss
        if self.every and step % self.every == 0:
            rate = self._config.rate(step - 1)
            self._write({"step": step, "learning_rate": rate, "train_loss": loss})

    def evaluated(
        self, step: int, model: HookedTransformer, results: Mapping[str, Proportion]
    ) -> None:
        """Write a row an evaluation."""
        for record in evaluation_records(step, self._loss, results, self._config):
            self._write(record)

    def ended(self, step: int) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _write(self, row: Mapping[str, Any]) -> None:
        assert self._stream is not None  # began() opens it
        self._stream.write(self._file.line({"run": self._run, **row}))
        self._stream.flush()


class WandbLog(Callback):
    """Sends a run's steps and evaluations to Weights & Biases, a run there for each run here.

    Logged under the step: "train/loss", "train/learning_rate"; for every evaluation "accuracy/NAME",
    "ci_low/NAME" and "ci_high/NAME". The settings of the training are the run's config there.

    To go on with a run that was killed, give the same ``id`` both times: wandb resumes it, and of steps told
    again it leaves out those it has (and says so). Offline each part is a folder of its own.

    Args:
        project: wandb's project.
        name: The run's name there; what the recipe calls the model by default.
        id: The run's id there, for resuming; a fresh one by default. It stands for one run only.
        group: A name that puts runs together there.
        mode: "online", "offline" (files only, to be sent by ``wandb sync``) or "disabled"; by default what
            the environment variable WANDB_MODE says, or online.
        directory: Where wandb's folder goes; the working directory by default.
        every: Steps between logged steps; 0 logs evaluations only.
        config: Further settings to show beside the training's.

    Raises:
        ConfigError: If wandb is not installed (names the command), ``every`` is negative, or an ``id`` is
            used for a second run. What wandb itself raises, as without a login, comes as it is.

    Example:
        >>> import mechft as mf
        >>> log = mf.WandbLog("what-finetuning-does", mode="offline", config={"C_Tr": 1.0})
        >>> base = mf.load("pcfg-tiny-low")
        >>> ft = mf.finetune(base, "b", steps=2, batch_size=8, evaluation_size=20, callbacks=[log])
    """

    def __init__(
        self,
        project: str,
        *,
        name: str | None = None,
        id: str | None = None,
        group: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        directory: str | Path | None = None,
        every: int = 1,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        require(
            every >= 0,
            f"every is the number of steps between logged ones, or 0 for evaluations only; got {every}.",
        )
        self._wandb = _wandb()
        self.project, self.name, self.id, self.group, self.mode = project, name, id, group, mode
        self.directory, self.every, self.config = directory, every, dict(config or {})
        self._label: str | None = None
        self._run: Any = None

    def began(self, label: str, config: TrainConfig, step: int) -> None:
        """Begin, or resume, the run there."""
        require(
            self.id is None or self._label in (None, label),
            f"The id {self.id!r} stands for one run, {self._label}; got another, {label}. Leave id out, or "
            "make a WandbLog for each.",
        )
        self._label, self._config = label, config
        if self.directory is not None:
            Path(self.directory).mkdir(parents=True, exist_ok=True)
        with preserved_random_state():
            self._run = self._wandb.init(
                project=self.project,
                name=self.name or label,
                id=self.id,
                group=self.group,
                mode=self.mode,
                dir=None if self.directory is None else str(self.directory),
                config={"label": label, **asdict(config), **self.config},
                resume=None if self.id is None else "allow",
                reinit="create_new",
            )

    def stepped(self, step: int, loss: float) -> None:
        """Log the step, if it is its turn."""
        if self.every and step % self.every == 0:
            rate = self._config.rate(step - 1)
            self._run.log({"train/loss": loss, "train/learning_rate": rate}, step=step)

    def evaluated(
        self, step: int, model: HookedTransformer, results: Mapping[str, Proportion]
    ) -> None:
        """Log every accuracy with its interval."""
        values = {}
        for name, result in results.items():
            values[f"accuracy/{name}"] = result.value
            values[f"ci_low/{name}"], values[f"ci_high/{name}"] = result.low, result.high
        self._run.log(values, step=step)

    def ended(self, step: int) -> None:
        """Finish the run there."""
        if self._run is not None:
            self._run.finish()
            self._run = None


def _wandb() -> Any:
    """The wandb package.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return import_module("wandb")
    except ImportError as error:
        raise ConfigError(
            "WandbLog hands runs to wandb, which is not installed. Install it with pip install wandb, or "
            "write a file with TableLog."
        ) from error
