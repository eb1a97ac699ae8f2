"""What a reproduction of the PCFG setup measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechft.experiments.pcfg.config import STUDIES, StudyConfig, StudyScale
from mechft.experiments.sweep.result import SweepResult, read_saved


@dataclass(frozen=True)
class StudyResult(SweepResult[StudyConfig, StudyScale]):
    """Tables of a PCFG study, by the names of ``mechft.experiments.pcfg.parts``.

    Labels are prior, rate ("" for base models and controls), c_tr, seed; and stage, kind, reverse_rate,
    share, pretraining_steps, token where a table has them.
    """


def read_result(folder: str | Path) -> StudyResult:
    """The result that was saved to a folder, for its report and figures; raises as ``read_saved``."""

    def config(name: str, **told: Any) -> StudyConfig:
        return STUDIES[name](**told)

    return read_saved(folder, StudyResult, config, StudyScale, "a PCFG study")
