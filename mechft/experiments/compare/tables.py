"""Results as tables: what lies beside a result's own frame, and a result made from its tables again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mechft.analysis.ablation_comparison import AblationComparison
from mechft.analysis.activation_diff import ActivationDiff, DifferenceSpectrum
from mechft.analysis.attention import AttentionDiff, AttentionMass
from mechft.analysis.circuits import CircuitDiff
from mechft.analysis.diagnosis import Diagnosis
from mechft.analysis.interpolation import Interpolation
from mechft.analysis.logit_lens import LogitLens
from mechft.analysis.low_rank import LowRank
from mechft.analysis.output_diff import OutputDiff
from mechft.analysis.patching import Patching
from mechft.analysis.pruning import PruneCurve
from mechft.analysis.result import Result
from mechft.analysis.revival import Revival
from mechft.analysis.spectrum import Spectrum
from mechft.analysis.text_loss import TextLoss
from mechft.analysis.untaught import UntaughtReturn
from mechft.analysis.weight_diff import WeightDiff

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class _Layout:
    """How a kind of result lies in files.

    Attributes:
        made: Its class.
        beside: Tables beside ``frame`` by their field: the class of the result that holds one, or None for a
            bare frame.
        keyed: Numbers by key, with the names of the key's parts: a table with a column each, and "value".
        facts: Fields that hold a word each: a table of one row.
        unsaved: Fields that are not saved (tensors) and read back empty.
        whole: Columns of whole numbers that may be missing.
    """

    made: type[Result]
    beside: Mapping[str, type[Result] | None] = field(default_factory=dict)
    keyed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    unsaved: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


_LAYOUTS = {
    layout.made.__name__: layout
    for layout in (
        _Layout(WeightDiff, {"heads": None}),
        _Layout(OutputDiff, {"examples": None}),
        _Layout(TextLoss),
        _Layout(LogitLens),
        _Layout(AttentionDiff, {"mass": AttentionMass}),
        _Layout(ActivationDiff, {"spectrum": DifferenceSpectrum}, unsaved=("by_site",)),
        _Layout(CircuitDiff),
        _Layout(Spectrum),
        _Layout(Interpolation, {"barriers": None}),
        _Layout(Patching, unsaved=("rows",), whole=("index", "position")),
        _Layout(AblationComparison, whole=("index", "position")),
        _Layout(LowRank, whole=("rank",)),
        _Layout(PruneCurve, keyed={"commonest": ("model", "task")}, unsaved=("rankings", "hits")),
        _Layout(Revival),
        _Layout(UntaughtReturn, unsaved=("hits",)),
        _Layout(Diagnosis, facts=("verdict", "reason"), unsaved=("behaviour", "evidence")),
    )
}


def frames_of(stage: str, result: Result) -> dict[str, pd.DataFrame]:
    """The tables of a stage's result by name; those without a row are left out."""
    import pandas as pd

    found, layout = {stage: result.frame}, _LAYOUTS[type(result).__name__]
    for name in layout.beside:
        table = getattr(result, name)
        found[f"{stage}_{name}"] = table.frame if isinstance(table, Result) else table
    for name, keys in layout.keyed.items():
        rows = [(*key, value) for key, value in getattr(result, name).items()]
        found[f"{stage}_{name}"] = pd.DataFrame(rows, columns=[*keys, "value"])
    if layout.facts:
        found[f"{stage}_facts"] = pd.DataFrame(
            [{name: getattr(result, name) for name in layout.facts}]
        )
    return {name: frame for name, frame in found.items() if len(frame)}


def result_of(stage: str, kind: str, tables: Mapping[str, pd.DataFrame]) -> Result:
    """The result of a stage, of a kind, from its tables as ``frames_of`` names them; tensors are missing."""
    import pandas as pd

    layout = _LAYOUTS[kind]
    parts: dict[str, Any] = {name: {} for name in layout.unsaved}
    for name, made in layout.beside.items():
        frame = tables.get(f"{stage}_{name}", pd.DataFrame())
        parts[name] = frame if made is None else made(frame)
    for name, keys in layout.keyed.items():
        rows = tables[f"{stage}_{name}"]
        parts[name] = dict(
            zip(rows[[*keys]].itertuples(index=False, name=None), rows["value"], strict=True)
        )
    for name in layout.facts:
        parts[name] = tables[f"{stage}_facts"][name].iloc[0]
    frame = tables.get(stage, pd.DataFrame())  # of a verdict that took no votes there is none
    return layout.made(frame.astype(dict.fromkeys(layout.whole, "Int64")), **parts)
