"""The sections of a comparison's report: each stage's question, what it found, its figure and its code."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from mechft import plots
from mechft.analysis.attention import AttentionDiff
from mechft.analysis.circuits import CircuitDiff
from mechft.analysis.diagnosis import Diagnosis
from mechft.analysis.result import Result
from mechft.analysis.revival import Revival
from mechft.analysis.spectrum import Spectrum
from mechft.analysis.untaught import UntaughtReturn
from mechft.analysis.weight_diff import WeightDiff
from mechft.experiments.compare.config import CompareSettings
from mechft.experiments.compare.result import Comparison
from mechft.experiments.compare.tables import frames_of
from mechft.report.render import Section, table_html

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_NUMBERED = 8  # heads of a block beside which there is room for numbers


@dataclass(frozen=True)
class _Told:
    """What is said of a stage whatever it found.

    Attributes:
        title: Its section's heading.
        how: How it is measured.
        caption: How to read its figure; "" where there is none.
        plain: The function behind it, as it is called by itself.
    """

    title: str
    how: str
    caption: str
    plain: str


_TOLD = {
    "weights": _Told(
        "Weights: which moved?",
        "Each weight's change (fine-tuned − base) by its Frobenius norm, over the norm of the base's. "
        "Outside the blocks are embeddings, the last norm and the unembedding.",
        "How far each weight matrix moved, as a share of its own norm; blocks from bottom to top.",
        "mechft.analysis.weight_diff.diff_weights(base, finetuned)",
    ),
    "outputs": _Told(
        "Outputs: do they answer alike?",
        "Both models answer the same rows. KL is the divergence of their probabilities over the whole "
        "vocabulary; total variation half the sum of their differences.",
        "Dots with 95% intervals: the fine-tuned model, and the base after a random change as large. "
        "What a random change does as well says nothing about what was learned.",
        "mechft.analysis.output_diff.diff_outputs(base, finetuned, batches)",
    ),
    "loss": _Told(
        "Loss: what does the text cost?",
        "The cross-entropy of every next token, averaged over each window and then over windows.",
        "",
        'mechft.analysis.text_loss.text_loss({"base": base, "finetuned": finetuned}, {"text": batches})',
    ),
    "lens": _Told(
        "Logit lens: where do they part?",
        "The logit lens reads the residual stream after each block through the model's own final norm and "
        "unembedding: what it would answer if it stopped there.",
        "Left and middle: how well each model's lens names the right answer, block by block. Right: how "
        "far its probabilities are from the base's at the same block.",
        'mechft.analysis.logit_lens.logit_lens({"base": base, "finetuned": finetuned}, batches)',
    ),
    "attention": _Told(
        "Attention: which heads look elsewhere?",
        "The Jensen-Shannon divergence of each head's attention pattern from the base's on the same "
        "rows: 0 bits where they are the same, 1 where they share no token.",
        "A cell a head, blocks from bottom to top; beside it the same after a random change as large.",
        "mechft.analysis.attention.diff_attention(base, finetuned, batches)",
    ),
    "activations": _Told(
        "Activations: where did they move?",
        "The mean length of the difference of activations over the mean length of the base's, for what "
        "attention and MLP of each block add to the residual stream, and for the stream after it.",
        "How far activations moved, blocks from bottom to top; beside it the same after a random change "
        "as large.",
        "mechft.analysis.activation_diff.diff_activations(base, finetuned, batches)",
    ),
    "circuits": _Told(
        "Circuits: what do heads do now?",
        "A head's QK circuit (W_Q W_Kᵀ) is what it looks for, its OV circuit (W_V W_O) what it moves. "
        "Both stay the same when weights inside the head are merely turned.",
        "A cell a head: how far its circuit moved, as a share of its norm.",
        "mechft.analysis.circuits.diff_circuits(base, finetuned)",
    ),
    "spectrum": _Told(
        "Spectra: how many directions?",
        "Singular values of the change and of the base's own weight, for the matrices that moved most.",
        "Solid lines fall early where the change took few directions; the second row is a random change as "
        "large, which takes nearly all.",
        "mechft.analysis.spectrum.spectrum(base, finetuned)",
    ),
    "interpolation": _Told(
        "Interpolation: how much must be undone?",
        "The models on the straight line between the base's weights (0) and the fine-tuned ones (1), "
        "asked for the data's right answers and for the base's own.",
        "Above: the share of answers given; below: their loss. Dotted: the straight line between the ends.",
        "mechft.analysis.interpolation.interpolate(base, finetuned, tasks)",
    ),
    "patching": _Told(
        "Patching: what brings the base's answers back?",
        "Both models read the same prompt; at one place the activation of one is put into the other, at all "
        "positions. Each model is first patched with itself, which must change nothing.",
        "100%: with the patch the model answers as the one the activation came from; 0%: as without it. "
        "resid_pre is the whole stream before a block, readout the final norm and unembedding.",
        "mechft.analysis.patching.patch_across(base, finetuned, batch)",
    ),
    "ablation": _Told(
        "Ablation: what came to matter?",
        "Each part is replaced by its mean over the same prompts, one at a time, in both models; what is "
        "measured is the probability of the right answer.",
        "Across: what ablating a part changes in the base; up: in the fine-tuned model. Off the diagonal "
        "a part came to matter more or less.",
        "mechft.analysis.ablation_comparison.compare_ablations(base, finetuned, batch)",
    ),
    "low_rank": _Told(
        "Low rank: how few directions do it?",
        "The change of every block's matrices is cut to its strongest directions, on rows that the two "
        "models answer differently; right is what the fine-tuned model answers.",
        "The share of the fine-tuned model's answers by the number of directions kept in each matrix; "
        "dashed: as many random directions of the same strength.",
        "mechft.analysis.low_rank.low_rank(base, finetuned, tasks)",
    ),
    "pruning": _Told(
        "Pruning: do a few neurons hide it?",
        "Every neuron (a row of a weight matrix) is scored by gradient × weight of the loss on the base's "
        "answers, on half of the rows that the two models answer differently; those that stand most in the "
        "way are set to zero. Jain et al. (2024), App. D.",
        "The share of answers given by the number of neurons removed, on rows they were not scored on; "
        "dotted: as many at random, and the commonest answer to everything.",
        "mechft.analysis.pruning.prune_curve(finetuned, score_on, tasks)",
    ),
    "revival": _Told(
        "Training back: how few steps?",
        "The fine-tuned model is trained on the base's answers to half of the rows that the two models "
        "answer differently (reverse fine-tuning: AdamW, at a rate that follows from how far fine-tuning "
        "moved the weights), and measured on the other half.",
        "The share of the base's answers given to rows that were not trained on, over steps; bands are 95% "
        "intervals.",
        "mf.revival({name: mf.finetune_rows(model, train, {test: rows}, …).history})",
    ),
    "untaught": _Told(
        "Untaught: does it come back from shuffled answers?",
        "As before, but with the base's answers dealt out to the prompts anew. Which answers there are can "
        "be learned from that, and their form; which prompt has which cannot.",
        "The share of the base's answers given to rows that were not trained on, over steps; dotted: always "
        "giving the commonest answer. What rises above it was in the model.",
        "mf.untaught_return({name: model}, train, test, …)",
    ),
    "verdict": _Told(
        "Verdict: retained, wrapped or damaged?",
        "Retained where the fine-tuned model still gives the base's answers. Otherwise tools vote, each by a "
        "rule that was written down before it was used, with half a vote where the tool puts something of "
        "the base back; it takes 1.5 for one and at most .5 against it.",
        "A bar a vote: to the right for wrapped, to the left for damaged; none where the tool abstains.",
        "mechft.analysis.diagnosis.diagnose(base, finetuned, capability)",
    ),
}


def stage_sections(comparison: Comparison) -> list[Section]:
    """A section for each stage that gave a result, and one for the rows that moved most."""
    sections = []
    for name, result in comparison.results.items():
        sections.append(_section(comparison, name, result))
        if name == "outputs" and len(comparison.moved_most):
            sections.append(_moved_most(comparison))
    return sections


def _section(comparison: Comparison, name: str, result: Result) -> Section:
    told, stage = _TOLD[name], comparison.stage(name)
    said = [
        f"{html.escape(finding.text)} <i>{html.escape(finding.caution)}</i>"
        for finding in comparison.findings
        if finding.stage == name
    ]
    figure = _figure(result) if told.caption else None
    return Section(
        told.title,
        [*said, told.how, *([html.escape(stage.note)] if stage.note else [])],
        [figure] if figure is not None else [],
        _table(name, result),
        ", ".join(f"{table}.csv" for table in frames_of(name, result)),
        f'{call_line(comparison)}mf.plot(found.results["{name}"])\n# by itself: {told.plain}'
        if told.caption
        else f'{call_line(comparison)}found.results["{name}"].frame\n# by itself: {told.plain}',
        table_open=not told.caption,
        captions=[told.caption] if figure is not None else [],
    )


def _figure(result: Result) -> go.Figure | None:
    if isinstance(result, Diagnosis) and not len(result.frame):
        return None  # settled without a vote
    if isinstance(result, WeightDiff):
        # The figure knows matrices by their rank, which norms alone leave out.
        rank = result.frame["rank"].fillna(0).where(result.frame["matrix"])
        result = replace(result, frame=result.frame.assign(rank=rank))
    made = plots.plot(result)
    if isinstance(result, Revival | UntaughtReturn):  # elsewhere it is the pretraining operand's
        n = int(result.frame["n"].iloc[0])
        made.update_yaxes(title=f"the base's answers given (n = {n:,})")
    if (
        isinstance(result, (AttentionDiff, CircuitDiff))
        and result.frame["head"].nunique() > _NUMBERED
    ):
        made.update_traces(texttemplate="", selector={"type": "heatmap"})
    if isinstance(result, Spectrum):  # made for a wide page; here it takes what room there is
        made.update_layout(width=None)
    return made


def _table(name: str, result: Result) -> pd.DataFrame:
    """The table to show: all of it, but for spectra, which run to thousands of rows."""
    if name != "spectrum":
        return result.frame
    powers = {2**i for i in range(20)}
    return result.frame[result.frame["index"].isin(powers)]


def _moved_most(comparison: Comparison) -> Section:
    asked = "rows" if comparison.data.kind == "answers" else "places in the texts"
    frame = comparison.moved_most.rename(
        columns={
            "number": "No.",
            "prompt": "Prompt (its end)",
            "right_answer": "Right",
            "base_answer": "Base",
            "finetuned_answer": "Fine-tuned",
            "kl_from_base": "KL, nats",
            "base_probability": "P(right), base",
            "probability": "P(right), fine-tuned",
        }
    )
    return Section(
        "Examples: what moved most",
        [
            f"The {len(frame)} {asked} with the largest divergence from the base, and what either model says "
            "next. The number is that of the record in the data, from 0. They are extremes: the usual row "
            "moved less.",
            table_html(frame, label="Examples that moved most", file="moved_most.csv", words=True),
        ],
        code=f"{call_line(comparison)}found.moved_most",
    )


def call_line(comparison: Comparison) -> str:
    """The lines that make the comparison again; objects in memory go by their argument's name."""
    names = ("base", "finetuned", "data")
    paths = (comparison.base.given, comparison.finetuned.given, comparison.data.given)
    given = ", ".join(
        json.dumps(path) if path else name for name, path in zip(names, paths, strict=True)
    )
    if comparison.control is not None:
        path = comparison.control.given
        given += f", control={json.dumps(path) if path else 'control'}"
    usual = asdict(CompareSettings())
    options = "".join(
        f", {name}={value!r}"
        for name, value in asdict(comparison.settings).items()
        if value != usual[name]
    )
    return f"import mechft as mf\n\nfound = mf.compare({given}{options})\n"
