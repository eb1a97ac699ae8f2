"""What the stories study measured: tables, claims, and where it was run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.errors import CheckpointError
from mechft.experiments.checks import Check
from mechft.experiments.saved_tables import RESULT_FILE, read_tables, save_tables, tuples
from mechft.experiments.stories.config import StoriesConfig, StoriesScale

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StoriesResult:
    """Tables of a stories study, tidy: one measured number a row, with the labels of its run.

    Labels are model ("base"; "never": pretrained without the feature; "deleted"), protocol, rate, seed; and
    step where a model was looked at while the feature was brought back.

    Attributes:
        config, scale: What was run.
        tables: By name: pretraining, deletion and reversal (losses over steps); writing, losses, samples,
            probes; weights, activations, outputs, decisions, pruning, patching (deleted beside base);
            reversal_writing, reversal_samples; classifier, counts.
        checks: The paper's claims and whether they hold.
        left_out: Runs that diverged, and those that needed them, in words.
        versions: Of the packages it was run with.
    """

    config: StoriesConfig
    scale: StoriesScale
    tables: dict[str, pd.DataFrame]
    checks: tuple[Check, ...]
    left_out: tuple[str, ...]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """What results.json says beside tables and claims: plain JSON values."""
        config = asdict(self.config)
        told = {name: config[name] for name in ("preset", "seeds", "quick", "feature")}
        source = config["source"]
        # Where a file lies says something of a machine and nothing of the stories.
        told["source"] = source if source in ("procedural", "hub") else Path(source).name
        return {
            "reproduce": self.config.name,
            "config": told,
            "scale": asdict(self.scale),
            "left_out": list(self.left_out),
            "versions": self.versions,
        }

    def save(self) -> Path:
        """Write a CSV file per table, claims.csv and results.json; returns their folder."""
        return save_tables(self.config.results, self.to_dict(), self.tables, self.checks)


def read_stories_result(folder: str | Path) -> StoriesResult:
    """The result that was saved to a folder, for its report and figures: nothing is trained.

    Raises:
        CheckpointError: If the folder holds no such result, or a table of it is missing.
    """
    folder = Path(folder)
    found, tables, checks = read_tables(folder, "a stories study")
    try:
        config = StoriesConfig(**found["config"], out=folder)
        scale = StoriesScale(**{name: tuples(value) for name, value in found["scale"].items()})
        left_out, versions = tuple(found["left_out"]), found["versions"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / RESULT_FILE} holds no results of a stories study ({type(error).__name__}: {error}). "
            "Give the folder that mechft reproduce wrote."
        ) from error
    return StoriesResult(config, scale, tables, checks, left_out, versions)
