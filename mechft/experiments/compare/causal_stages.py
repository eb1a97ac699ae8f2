"""Stages that intervene: weights between the models, activations exchanged, parts and neurons taken out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from mechft.analysis.ablation_comparison import compare_ablations
from mechft.analysis.interpolation import Interpolation, interpolate
from mechft.analysis.interventions.sites import Component, Site
from mechft.analysis.low_rank import LowRank, low_rank
from mechft.analysis.patching import Patching, patch_across
from mechft.analysis.pruning import PruneCurve, prune_curve
from mechft.analysis.result import Result
from mechft.experiments.compare.findings import Finding, counted, number, percent
from mechft.experiments.compare.outcome import (
    ASKS_ANSWERS,
    LEAST_ROWS,
    Outcome,
    differing_halves,
    row_of,
    shown,
    too_dear,
    too_few,
)
from mechft.experiments.compare.pair import FINETUNED, Pair
from mechft.experiments.compare.pooling import pooled
from mechft.experiments.compare.rows import most_rows
from mechft.experiments.compare.weight_stages import decomposing
from mechft.statistics import proportion

if TYPE_CHECKING:
    import pandas as pd

RIGHT, BASES, FINETUNEDS = "right answers", "the base's answers", "the fine-tuned model's answers"
AGREED = "answers on which they agree"
_ALPHAS = tuple(i / 10 for i in range(11))
_PATCHED: tuple[Component, ...] = ("resid_pre", "attn_out", "mlp_out")
_REMOVED, _DRAWS = (0, 1, 2, 5, 10, 20), 2  # neurons, and random orders of them beside
_NEVER = 0.01  # a probability that has nothing to lose
_SWEPT = 64  # rows of one forward of a sweep
_HEAD_ROWS = 64  # heads are ablated one by one if that leaves so many rows, or all there are


def interpolation(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """Both models' answers on the straight line between their weights."""
    if pair.kind != "answers":
        return ASKS_ANSWERS
    asked = pair.asked
    rows = asked.rows.spread(pair.affordable(2 * len(_ALPHAS)))
    theirs = asked.rows.answered(asked.base).spread(len(rows))
    tasks = {BASES: theirs.batches}
    if rows.answers() != theirs.answers():
        tasks[RIGHT] = rows.batches
    result = interpolate(pair.base, pair.finetuned, tasks, alphas=_ALPHAS, seed=pair.settings.seed)
    finding = _interpolation_finding(result)
    return Outcome(result, (finding,), len(rows), shown(len(rows), len(pair.rows)))


def _interpolation_finding(result: Interpolation) -> Finding:
    frame = result.frame[result.frame["metric"] == "accuracy"]
    given = frame[frame["task"] == BASES].set_index("alpha")["value"]
    if given.min() == 1:
        text = "All the way from the base to the fine-tuned weights the base's answers are given."
    else:
        kept = given[given >= (given.loc[0.0] + given.loc[1.0]) / 2].index.max()
        text = (
            f"With {percent(1 - kept)} of the change undone, {percent(given.loc[kept])} of the base's "
            f"answers are given, at least half way from {percent(given.loc[1.0])} (nothing undone) to 100%."
        )
    loss = result.barriers[result.barriers["metric"] == "loss"]
    top = row_of(loss, task=RIGHT if (loss["task"] == RIGHT).any() else BASES)
    if top["barrier"] > 0:
        text += (
            f" The loss on {top['task']} rises above the straight line between the two models by "
            f"{number(top['barrier'], top['ci_low'], top['ci_high'])} nats at most."
        )
    else:
        text += f" The loss on {top['task']} nowhere rises above the straight line between the two."
    caution = (
        "The base's weights are mixed in, and may bring the answers along. A barrier's interval starts "
        "above 0 on noise alone, for it is a largest value."
    )
    return Finding("interpolation", text, caution)


def patching(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """The activations of one model put into the other, where the two answer differently."""
    if pair.kind != "answers":
        return ASKS_ANSWERS
    differing, ours, _ = pair.asked.differing()
    if few := too_few(len(differing), pair, "where in the model the answers part"):
        return few
    sites = [*_PATCHED, Site(pair.n_layers - 1, "resid_post")]
    passes = 2 * (len(_PATCHED) * pair.n_layers + 3)
    rows = differing.answered(ours).spread(min(len(differing), pair.affordable(passes)))
    tasks = {f"part {i}": part for i, part in enumerate(rows.grouped(pair.d_vocab))}
    parts = patch_across(pair.base, pair.finetuned, tasks, sites, seed=pair.settings.seed)
    result = pooled(parts, BASES, pair.settings.seed)
    note = (
        f"Rows that the two models answer differently, of which {len(differing):,} of "
        f"{len(pair.asked.rows):,} are; right is what the base answers, so the base scores 100% and the "
        f"fine-tuned model 0%. {shown(len(rows), len(differing))}"
    ).strip()
    return Outcome(result, (_patching_finding(result, len(rows)),), len(rows), note)


def _patching_finding(result: Patching, n: int) -> Finding:
    frame = result.frame[result.frame["direction"] == "base→finetuned"]
    best = result.best(BASES, "base→finetuned", ["attn_out", "mlp_out"])
    # The gap is the whole of the rows, so what is recovered is a share of them; a bootstrap of rows that all
    # agree would have no width.
    share = proportion(round(best["recovered"] * best["n"]), best["n"])
    stream = [
        float(value)
        for component in ("resid_pre", "resid_post")  # the latter after the last block alone
        for value in frame[frame["component"] == component].sort_values("block")["recovered"]
    ]
    readout = row_of(frame, component="readout")
    steps = [after - before for before, after in pairwise(stream)]
    block = max(range(len(steps)), key=steps.__getitem__)
    text = (
        f"On {counted(n, 'row')} that they answer differently, the base's {best['site']} brings back "
        f"{percent(share.value, share.low, share.high)} of the base's answers "
        "(chosen among all attention and MLP outputs, on the other half of the rows). With the base's whole "
        f"stream before block {block} it is {percent(stream[block])}, after it {percent(stream[block + 1])}: "
        "the largest step of any block. The base's readout alone brings back "
        f"{percent(readout['recovered'])}."
    )
    caution = (
        "That the base's activation does it shows that what follows still serves the old answers, not that "
        "the fine-tuned model could still produce that activation."
    )
    return Finding("patching", text, caution)


def ablation(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """Parts replaced by their mean, one at a time, in both models."""
    if pair.kind != "answers":
        return ASKS_ANSWERS
    length, rows = next(iter(pair.rows.by_length().items()))
    if len(rows) < LEAST_ROWS:
        return (
            "Parts are replaced by their mean at each position, over prompts of one length; the commonest, "
            f"{counted(length, 'token')}, has {counted(len(rows), 'prompt')} of {len(pair.rows):,}, and it "
            f"takes {LEAST_ROWS}. Give more prompts of one length."
        )
    heads = pair.n_layers * int(pair.base.cfg.n_heads)
    sites: tuple[Component, ...] = ("head", "mlp_out")
    n, note = pair.affordable(2 * (heads + pair.n_layers), least=1), ""
    if n < min(_HEAD_ROWS, len(rows)):
        sites = ("attn_out", "mlp_out")
        n = pair.affordable(4 * pair.n_layers)
        note = (
            f"Attention of each block as a whole: {heads} heads one by one would leave fewer than "
            f"{_HEAD_ROWS} rows (settings.work)."
        )
    # All rows are one batch, of which a sweep runs so many at a time.
    room = 4 * most_rows(length, pair.d_vocab)
    chosen = rows.spread(min(n, len(rows), room if room < _SWEPT else n))
    result = compare_ablations(
        pair.base,
        pair.finetuned,
        {RIGHT: chosen.one_batch()},
        sites,
        metric="probability",
        seed=pair.settings.seed,
    )
    if len(rows) < len(pair.rows):
        note = f"Prompts of {length} tokens, the commonest: {len(rows):,} of {len(pair.rows):,}. {note}"
    note = f"{note} {shown(len(chosen), len(rows))}".strip()
    return Outcome(result, (_ablation_finding(result.frame),), len(chosen), note)


def _ablation_finding(frame: pd.DataFrame) -> Finding:
    differ = frame[frame["verdict"] != "same"]
    first = frame.iloc[0]
    if max(first["base_untouched"], first["finetuned_untouched"]) < _NEVER:
        text = (
            f"The right answer has a probability of {percent(first['base_untouched'])} in the base and "
            f"{percent(first['finetuned_untouched'])} in the fine-tuned model, so no part can be seen to "
            "matter for it."
        )
        return Finding("ablation", text)
    text = (
        f"{len(differ)} of {counted(len(frame), 'part')} came to do something else to the right answer's "
        f"probability, which is {percent(first['base_untouched'])} in the base and "
        f"{percent(first['finetuned_untouched'])} in the fine-tuned model."
    )
    if len(differ):
        top = differ.loc[differ["difference"].abs().idxmax()]
        text += (
            f" Most: {top['sites']}, whose ablation changes it by {top['base']:+.1%} in the base and "
            f"{top['finetuned']:+.1%} in the fine-tuned model (difference "
            f"{percent(top['difference'], top['difference_low'], top['difference_high'])}: {top['verdict']})."
        )
    caution = (
        f"Of {len(frame)} parts, about {0.05 * len(frame):.0f} would differ by chance. A model that hardly "
        "gives the right answer has little to lose."
    )
    return Finding("ablation", text, caution)


def low_ranks(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """The change cut to a few directions a matrix, where the two models answer differently."""
    if pair.kind != "answers":
        return ASKS_ANSWERS
    differing, _, theirs = pair.asked.differing()
    if few := too_few(len(differing), pair, "how little of the change gives the new answers"):
        return few
    inside = [n for n, w in pair.weights.items() if w.in_block]
    cost = decomposing(pair, inside, vectors=True)
    if dear := too_dear(pair, "The singular vectors of all matrices", cost, "low_rank"):
        return dear
    ranks = 12
    rows = differing.answered(theirs).spread(min(len(differing), pair.affordable(2 * ranks)))
    result = low_rank(
        pair.base,
        pair.finetuned,
        {FINETUNEDS: rows.batches},
        random_draws=1,
        seed=pair.settings.seed,
    )
    note = (
        f"Rows that the two models answer differently. {shown(len(rows), len(differing))}".strip()
    )
    return Outcome(result, (_low_rank_finding(result),), len(rows), note)


def _low_rank_finding(result: LowRank) -> Finding:
    own, random = (result.ranks_to(FINETUNEDS, change=change) for change in ("own", "random"))
    most = int(result.frame["rank"].max())
    none = row_of(result.frame[result.frame["change"] == "own"], rank=0)
    text = (
        f"With {'no rank' if not own else counted(own, 'rank')} of {most} a matrix, nine in ten of the "
        "fine-tuned model's answers are given; with the same singular values in random directions "
        f"{'that is never so' if random is None else f'it takes {random}'}. Biases, norms and embeddings "
        f"alone give {percent(none['value'])}."
    )
    caution = "Rows on which the models agree are left out; few ranks a matrix are still many numbers in all."
    return Finding("low_rank", text, caution)


def pruning(pair: Pair, found: Mapping[str, Result]) -> Outcome | str:
    """Neurons removed from the fine-tuned model, first those that stand most in the base's answers' way."""
    halves = differing_halves(pair, "whether a few neurons hide the base's answers")
    if isinstance(halves, str):
        return halves
    fit, test = halves
    evaluations = 1 + (len(_REMOVED) - 1) * (1 + _DRAWS)
    scored = fit.spread(pair.affordable(6))  # a backward pass costs two forwards; half of the work
    rows = test.spread(pair.affordable(4 * evaluations))
    tasks = {BASES: rows.grouped(pair.d_vocab)}
    agreed = pair.asked.agreeing().spread(len(rows))
    if len(agreed) >= LEAST_ROWS:
        tasks[AGREED] = agreed.grouped(pair.d_vocab)
    result = prune_curve(
        pair.finetuned,
        scored.grouped(pair.d_vocab),
        tasks,
        counts=_REMOVED,
        random_draws=_DRAWS,
        seed=pair.settings.seed,
        name=FINETUNED,
    )
    note = (
        f"Neurons are scored on {len(scored):,} rows that the two models answer differently; right is what "
        f"the base answers. {shown(len(rows), len(test))}"
    ).strip()
    return Outcome(result, (_pruning_finding(result),), len(rows), note)


def _pruning_finding(result: PruneCurve) -> Finding:
    best = result.best(BASES, max(_REMOVED)).set_index("score")
    row, chance = best.loc["gradient×weight"], best.loc["random"]
    units = len(result.scores[FINETUNED])
    share = percent(row["accuracy"], row["ci_low"], row["ci_high"])
    if row["k"]:
        text = (
            f"With {int(row['k'])} of {counted(units, 'neuron')} removed, {share} of the base's answers are "
            f"given where the two differ (how many was chosen on other rows); with random ones at best "
            f"{percent(chance['ci_high'])}, with the commonest answer to everything "
            f"{percent(row['commonest'])}."
        )
    else:
        text = (
            f"Removing up to {max(_REMOVED)} of {counted(units, 'neuron')} brings none of the base's answers "
            f"back where the two differ ({share} with none removed; always giving the commonest answer "
            f"gives {percent(row['commonest'])})."
        )
    if row["k"] and (result.frame["task"] == AGREED).any():
        kept = row_of(result.frame, task=AGREED, k=int(row["k"]), score="gradient×weight")
        text += f" Of the answers on which they agree {percent(kept['accuracy'])} stay."
    caution = "That no few neurons bring answers back does not show that these are gone."
    return Finding("pruning", text, caution)
