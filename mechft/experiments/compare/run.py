"""Any pair of models compared on a user's own data: opened, checked, and looked at stage by stage."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mechft.analysis.output_diff import OutputDiff
from mechft.experiments.compare.config import CompareSettings
from mechft.experiments.compare.looking import (
    Look,
    alike,
    completed,
    first_look,
    look,
    weights_unchanged,
)
from mechft.experiments.compare.pair import Pair, check_pair, encoder
from mechft.experiments.compare.result import Comparison, DataFacts, ModelFacts
from mechft.experiments.compare.rows import Rows, rows_of
from mechft.experiments.compare.words import moved_most, reader
from mechft.models.build import fingerprint
from mechft.models.hook_points import as_model
from mechft.models.opening import Opened, TextCoder, open_model
from mechft.models.weights import all_weights
from mechft.tasks.prompts import Prompts, read_prompts
from mechft.training.trained import package_versions

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 128
_QUICK = "Only the first answer was asked for (quick)."
_ALIKE = (
    "The two models' weights are the same, and so are their answers: there is no more to compare."
)


def run_comparison(
    base: Any,
    finetuned: Any,
    data: Any,
    settings: CompareSettings | None = None,
    *,
    control: Any = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare two models on some data, cheapest first; arguments and errors as ``mechft.compare``."""
    settings = settings or CompareSettings()
    ours = open_model(base, device=device)
    theirs = open_model(finetuned, base=ours, device=device)
    check_pair(ours, theirs)
    never = None if control is None else open_model(control, base=ours, device=device)
    if never is not None:
        check_pair(ours, never)
    ours, theirs = (
        replace(opened, coder=reader(opened, given))
        for opened, given in ((ours, base), (theirs, finetuned))
    )
    prompts = _read(data, ours, theirs, settings)
    one, two = as_model(ours.model), as_model(theirs.model)
    rows = rows_of(prompts, int(one.cfg.d_vocab))
    had_not = None if never is None else as_model(never.model)
    pair = Pair(one, two, rows, prompts.kind, settings, never=had_not)
    found = first_look(pair)
    _tell(found, len(rows), progress)
    if alike(found) or settings.quick:
        found = completed(found, _ALIKE if alike(found) else _QUICK)
    else:
        found = look(replace(pair, unchanged=weights_unchanged(found)), progress)
    return Comparison(
        _model_facts(ours, base),
        _model_facts(theirs, finetuned),
        _data_facts(data, prompts, rows),
        settings,
        found.records,
        found.results,
        _moved_most(found, rows, ours.coder or theirs.coder),
        found.findings,
        package_versions("transformers", "peft"),
        None if never is None else _model_facts(never, control),
    )


def _read(data: Any, ours: Opened, theirs: Opened, settings: CompareSettings) -> Prompts:
    """The data as the models' tokens: the base's tokenizer, or the other's where it has none."""
    return read_prompts(
        data,
        encoder(ours, theirs),
        n_ctx=min(ours.n_ctx, theirs.n_ctx),
        first_token=(ours if ours.coder is not None else theirs).first_token,
        limit=settings.limit,
        batch_size=_BATCH,
        window=settings.window,
        d_vocab=int(as_model(ours.model).cfg.d_vocab),
    )


def _tell(first: Look, rows: int, progress: bool) -> None:
    """Show the first answer while the rest is worked on."""
    if progress:
        from tqdm.auto import tqdm

        for record in first.records:
            of = f" ({record.rows:,} of {rows:,} rows)" if record.rows else ""
            said = " ".join(f.text for f in first.findings if f.stage == record.name)
            tqdm.write(f"{record.name}{of}: {said}")


def _moved_most(found: Look, rows: Rows, coder: TextCoder | None) -> pd.DataFrame:
    import pandas as pd

    outputs = found.results.get("outputs")
    if not isinstance(outputs, OutputDiff):
        return pd.DataFrame()
    seen = next(record.rows for record in found.records if record.name == "outputs")
    return moved_most(rows.spread(seen), outputs.examples, coder)


def _model_facts(opened: Opened, given: Any) -> ModelFacts:
    model = as_model(opened.model)
    sizes = ("n_layers", "n_heads", "d_model", "d_vocab")
    return ModelFacts(
        opened.name,
        opened.kind,
        _path(given),
        sum(weight.tensor.numel() for weight in all_weights(model).values()),
        {**{name: int(getattr(model.cfg, name)) for name in sizes}, "n_ctx": opened.n_ctx},
        fingerprint(model),
    )


def _data_facts(data: Any, prompts: Prompts, rows: Rows) -> DataFacts:
    lengths = [batch.tokens.shape[1] for batch in rows.batches]
    whole = hashlib.blake2b("".join(b.digest() for b in rows.batches).encode(), digest_size=8)
    return DataFacts(
        _path(data),
        prompts.kind,
        dict(prompts.counts),
        len(rows),
        min(lengths),
        max(lengths),
        whole.hexdigest(),
    )


def _path(given: Any) -> str:
    return str(given) if isinstance(given, (str, Path)) else ""
