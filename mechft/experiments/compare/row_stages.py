"""Stages that show both models the same rows: outputs, loss, lens, attention, activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from mechft.analysis.activation_diff import diff_activations
from mechft.analysis.attention import diff_attention
from mechft.analysis.logit_lens import logit_lens
from mechft.analysis.output_diff import OutputDiff, diff_outputs
from mechft.analysis.result import Result
from mechft.analysis.text_loss import row_losses, text_loss
from mechft.experiments.compare.findings import Finding, counted, number, percent
from mechft.experiments.compare.outcome import Outcome, row_of, shown
from mechft.experiments.compare.pair import BASE, FINETUNED, RANDOM, Pair
from mechft.experiments.compare.rows import Rows
from mechft.models.hook_points import attention_out, mlp_out, resid_post
from mechft.shortcuts.common import joined
from mechft.statistics import mean_estimate

if TYPE_CHECKING:
    import pandas as pd

Asked = Literal["answer", "all"]
_EXAMPLES = 20
_OVER_ROWS = "Intervals are over these rows; rows of another kind may differ."
_MEMORY = 1e9  # bytes of the sums that activations are compared by
_FIRST_WORK = 2e11  # operations of the first answer: some seconds on two cores


def asked(pair: Pair) -> Asked:
    """Which positions count: the answer's, or in texts every one."""
    return "answer" if pair.kind == "answers" else "all"


def first_outputs(pair: Pair) -> Outcome:
    """The answers on as many rows as take some seconds, without the random change."""
    quick = replace(pair, settings=replace(pair.settings, work=_FIRST_WORK))
    rows = pair.rows.spread(quick.affordable(2, least=8 if pair.kind == "answers" else 2))
    result = _outputs(pair, rows, (FINETUNED,))
    findings = output_findings(result, pair)
    return Outcome(result, findings, len(rows), shown(len(rows), len(pair.rows)))


def outputs(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """How often both models answer alike, and where they differ most."""
    rows = pair.rows.spread(pair.affordable(2 * len(pair.changed), least=64))
    result = _outputs(pair, rows, tuple(pair.changed))
    findings = output_findings(result, pair)
    return Outcome(result, findings, len(rows), shown(len(rows), len(pair.rows)))


def _outputs(pair: Pair, rows: Rows, names: tuple[str, ...]) -> OutputDiff:
    results = [
        diff_outputs(
            pair.base,
            pair.finetuned if name == FINETUNED else pair.randomly_changed,
            rows.batches,
            positions=asked(pair),
            keep=_EXAMPLES if name == FINETUNED else 0,
            name=name,
        )
        for name in names
    ]
    return replace(joined(results), examples=results[0].examples)


def output_findings(result: OutputDiff, pair: Pair) -> tuple[Finding, ...]:
    """What agreement and accuracies say, beside those of the random change."""

    def told(model: str, measure: str) -> str:
        found = row_of(result.frame, model=model, measure=measure)
        form = number if measure.startswith("kl") else percent
        return form(found["value"], found["ci_low"], found["ci_high"])

    agreement = row_of(result.frame, model=FINETUNED, measure="agreement")
    kl = row_of(result.frame, model=FINETUNED, measure="kl_from_base")
    n = int(agreement["n"])
    if agreement["value"] == 1 and kl["value"] == 0:
        text = f"Both models answer all {counted(n, 'row')} with the very same probabilities."
        return (Finding("outputs", text, _OVER_ROWS),)
    if pair.kind == "answers":
        text = (
            f"They give the same answer to {told(FINETUNED, 'agreement')} of {counted(n, 'prompt')} "
            f"(divergence {told(FINETUNED, 'kl_from_base')} nats). The right answer is given by the base in "
            f"{told(FINETUNED, 'base_accuracy')}, by the fine-tuned model in {told(FINETUNED, 'accuracy')}."
        )
        caution = f"Right is the first token of the answer that the data gives. {_OVER_ROWS}"
    else:
        text = (
            f"Their likeliest next token is the same at {told(FINETUNED, 'agreement')} of the positions of "
            f"{counted(n, 'window')} (divergence {told(FINETUNED, 'kl_from_base')} nats)."
        )
        caution = _OVER_ROWS
    if (result.frame["model"] == RANDOM).any():
        text += (
            f" A random change of the weights as large leaves {told(RANDOM, 'agreement')} alike "
            f"({told(RANDOM, 'kl_from_base')} nats)."
        )
        caution += " The random change is one draw."
    return (Finding("outputs", text, caution),)


def loss(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """What every next token of the text costs each model."""
    if pair.kind != "text":
        return (
            "It asks for text, and the data are prompts with answers; outputs has their accuracy."
        )
    rows = pair.rows.spread(pair.affordable(2 * (1 + len(pair.changed)), least=64))
    models = {BASE: pair.base, **pair.changed}
    result = text_loss(models, {"text": rows.batches})
    ours, theirs = (row_losses(model, rows.batches)[0] for model in (pair.base, pair.finetuned))
    gap = mean_estimate(theirs - ours)
    losses = result.frame.set_index("model")["loss"]
    told = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
    text = (
        f"A token costs {told} nats; fine-tuned − base is {number(gap.value, gap.low, gap.high)} (paired by "
        "window)."
    )
    caution = f"Windows of one text are not independent. {_OVER_ROWS}"
    return Outcome(
        result, (Finding("loss", text, caution),), len(rows), shown(len(rows), len(pair.rows))
    )


def lens(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """What both models would answer if they stopped after each block."""
    # Reading every block takes about as long as the forward.
    rows = pair.rows.spread(pair.affordable(2 * (1 + len(pair.changed))))
    result = logit_lens({BASE: pair.base, **pair.changed}, rows.batches)
    frame = result.frame[result.frame["model"] == FINETUNED].set_index("block")
    kl = frame["kl_from_base"]
    note = shown(len(rows), len(pair.rows))
    if pair.kind == "text":
        note = f"The last token of each window. {note}".strip()
    if not kl.max() > 0:
        text = "Read block by block, both models say the same after every block."
        return Outcome(result, (Finding("lens", text, _OVER_ROWS),), len(rows), note)
    step = kl.diff().fillna(kl.iloc[0])
    block = int(step.idxmax())
    before = kl.loc[block - 1] if block else 0.0
    at = frame.loc[block]
    interval = number(at["kl_from_base"], at["kl_from_base_low"], at["kl_from_base_high"])
    text = (
        f"Read block by block, they part most in block {block}: their divergence goes from {number(before)} "
        f"to {interval} nats there, and is {number(kl.iloc[-1])} after the last block"
    )
    if RANDOM in pair.changed:
        theirs = result.frame[result.frame["model"] == RANDOM]["kl_from_base"]
        text += f" (a random change: {number(theirs.iloc[-1])})"
    caution = "Early blocks are read poorly by the last one's readout: a small divergence there shows little."
    return Outcome(result, (Finding("lens", f"{text}.", caution),), len(rows), note)


def attention(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """How far every head's attention pattern moved."""
    rows = pair.rows.spread(pair.affordable(2 * len(pair.changed)))
    results = [
        diff_attention(pair.base, model, rows.batches, query=asked(pair), name=name)
        for name, model in pair.changed.items()
    ]
    result = replace(joined(results), mass=results[0].mass)
    frame = result.frame[result.frame["model"] == FINETUNED]
    top = frame.loc[frame["js"].idxmax()]
    text = (
        f"The head whose attention moved most is {top['block']}.{top['head']}: by "
        f"{number(top['js'], top['ci_low'], top['ci_high'])} of at most 1 bit; the median of "
        f"{counted(len(frame), 'head')} is {number(frame['js'].median())}."
        if top["js"] > 0
        else "Every head looks where it did in the base."
    )
    if RANDOM in pair.changed and top["js"] > 0:
        most = float(result.frame[result.frame["model"] == RANDOM]["js"].max())
        further = int((frame["js"] > most).sum())
        text += (
            f" {counted(further, 'head') if further else 'No head'} moved further than any does under a "
            f"random change as large (at most {number(most)})."
        )
    caution = (
        "The largest of many is picked, so it looks larger than it is; a head that looks elsewhere need not "
        "matter."
    )
    note = shown(len(rows), len(pair.rows))
    return Outcome(result, (Finding("attention", text, caution),), len(rows), note)


def activations(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """How far activations moved, site by site, and along how many directions."""
    hooks, note = _sites(pair)
    # The sums at every site take about as long as the forward.
    rows = pair.rows.spread(pair.affordable(4 * len(pair.changed)))
    results = [
        diff_activations(
            pair.base, model, rows.batches, hook_names=hooks, positions=asked(pair), name=name
        )
        for name, model in pair.changed.items()
    ]
    result = replace(
        joined(results),
        spectrum=joined([one.spectrum for one in results]),
        by_site=results[0].by_site,
    )
    note = f"{shown(len(rows), len(pair.rows))} {note}".strip()
    return Outcome(result, (_activation_finding(result.frame, pair),), len(rows), note)


def _activation_finding(frame: pd.DataFrame, pair: Pair) -> Finding:
    ours = frame[frame["model"] == FINETUNED]
    stream = ours[ours["component"] == "resid_post"].sort_values("block")
    first, last = stream.iloc[0], stream.iloc[-1]
    if not stream["relative_change"].max() > 0:
        return Finding("activations", "Activations are the same in both models at every site.")
    text = (
        f"The residual stream moved by {percent(first['relative_change'])} of its norm after block "
        f"{first['block']}, and by "
        f"{percent(last['relative_change'], last['ci_low'], last['ci_high'])} after block {last['block']}"
    )
    if RANDOM in pair.changed:
        theirs = row_of(frame, model=RANDOM, hook=last["hook"])
        text += f" (under a random change as large, by {percent(theirs['relative_change'])})"
    parts = ours[ours["component"] != "resid_post"]
    if len(parts):
        top = parts.loc[parts["relative_change"].idxmax()]
        text += (
            f". Of the parts that write to it, {top['component']} of block {top['block']} moved most: "
            f"{percent(top['relative_change'], top['ci_low'], top['ci_high'])}"
        )
    caution = (
        "Similarity (CKA) has no natural scale: hold it against the random change's, not against 1. A part "
        "that moved only passes on what moved before it."
    )
    return Finding("activations", f"{text}.", caution)


def _sites(pair: Pair) -> tuple[list[str], str]:
    """The hook points to compare, all that the memory has room for, and which were left out."""
    blocks = list(range(pair.n_layers))
    each = 32.0 * int(pair.base.cfg.d_model) ** 2
    room = int(_MEMORY / each)
    if 3 * len(blocks) <= room:
        return [f(b) for b in blocks for f in (attention_out, mlp_out, resid_post)], ""
    if len(blocks) <= room:
        return [resid_post(b) for b in blocks], "The residual stream alone, to bound the memory."
    step = len(blocks) / max(2, room)
    kept = sorted({blocks[-1], *(int(i * step) for i in range(max(2, room) - 1))})
    told = f"The residual stream after {len(kept)} of {len(blocks)} blocks, to bound the memory."
    return [resid_post(b) for b in kept], told
