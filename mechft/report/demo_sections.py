"""The sections of the demo's report that show an analysis: what it is, what it found, how to repeat it."""

from __future__ import annotations

import html

from mechft import plots
from mechft.analysis.patching import Direction
from mechft.experiments.demo_checks import in_steps
from mechft.experiments.demo_result import (
    BASE,
    CONTROL,
    REFT,
    STOP_AT,
    THRESHOLD,
    WITH,
    WITHOUT,
    DemoResult,
    best_removal,
    prune_table,
)
from mechft.plots.style import TASK_NAMES
from mechft.report.render import Section


def behaviour_section(result: DemoResult) -> Section:
    """What the models answer, and how that moved during fine-tuning."""
    import pandas as pd

    rows = [
        {"model": model, **{TASK_NAMES[q]: str(share) for q, share in questions.items()}}
        for model, questions in result.behaviour.items()
    ]
    figures = []
    for name in (WITH, WITHOUT):
        trained = result.histories[name]
        figure = plots.plot(trained)
        figure.update_layout(title_text=f"Fine-tuning, {name}", xaxis_title="fine-tuning steps")
        figures.append(figure)
    c1, none = result.behaviour[WITH], result.behaviour[WITHOUT]
    return Section(
        "Behaviour: what the models answer",
        [
            "Four questions, each on fresh strings: count a (the pretraining operand, O_PT) and count b "
            "(the fine-tuning operand, O_FT), on strings "
            "where count(b) = count(a) + 1 holds (correlated) and on strings where it does not.",
            f"With the correlation in all training strings the model is right about b in "
            f"{c1['acc_ft_cte1'].value:.1%} of correlated strings and {c1['acc_ft_cte0'].value:.1%} "
            "of the others. Trained without the correlation it "
            f"is right in {none['acc_ft_cte0'].value:.1%} of uncorrelated strings.",
            "Share of answers that are count(a) + 1 on uncorrelated strings, where that is wrong. "
            + "; ".join(
                f"{html.escape(name)}, asked for a: {shares['a']}, asked for b: {shares['b']}"
                for name, shares in result.wrapper.items()
            )
            + ".",
        ],
        figures,
        pd.DataFrame(rows),
        "behaviour.csv, training.csv",
        load_line(result) + f'ft = mf.finetune(base, "b", train_correlation=1.0, steps='
        f"{result.scale.finetuning_steps}, seed={result.config.seed}, evaluation_size="
        f'{result.scale.evaluation_rows}, name="{WITH}")\nmf.plot(ft)',
        True,
        [
            "Where O_FT is learned with the correlation only, the answer comes from counting a.",
            "Trained without the correlation, O_FT has to be counted: its two lines rise together.",
        ],
    )


def probe_section(result: DemoResult) -> Section:
    """What linear probes read, beside models that never had the capability."""
    frame = result.probe.frame
    best = frame[frame["target"] == "C(a)"].groupby("model", sort=False)["accuracy"].max()
    majority = frame.loc[frame["target"] == "C(a)", "majority"].mean()
    return Section(
        "Probing: is the count still there?",
        [
            "A linear probe on the residual stream after each block, at the position whose next "
            "token is the answer, asked for the operand it probes. It learns from strings it is not "
            "tested on. The dotted line is what always naming the commonest count would score: a "
            "probe at that line has found nothing.",
            "Two more lines are what the others are to be held against: a model of the same training "
            "that was never asked about a, and one that was never trained. Where they are read as well "
            "as the base, readability shows that the text is still in the stream, and says nothing "
            "about the capability.",
            "The count of a is read off best with "
            + ", ".join(f"{value:.1%} ({html.escape(m)})" for m, value in best.items())
            + f"; always naming the commonest count scores {majority:.1%}.",
        ],
        [plots.plot(result.probe)],
        frame,
        "probe.csv",
        'control = mf.load("pcfg-tiny-never-a")\n'
        f"mf.plot(mf.probe(base, ft, control, contrast=ft.contrast, train_size={result.scale.probe_rows}, "
        f"test_size={result.scale.probe_test_rows}, seed={result.config.seed}))",
        captions=["What a line has above those of the controls is what speaks for the capability."],
    )


def prune_section(result: DemoResult) -> Section:
    """What removing a few neurons brings back."""
    import pandas as pd

    table = prune_table(result.prune, WITH)
    best = best_removal(table)
    return Section(
        "Pruning: does removing a few neurons bring it back?",
        [
            "Neurons (output units of weight matrices) are ranked once by gradient × weight of the "
            "loss on counting a, on strings of their own; the largest are set to zero. The control "
            "removes as many at random: mean over "
            f"{result.scale.random_draws} draws, band from lowest to highest.",
            f"After C<sub>Tr</sub> = 1, removing {best['k']} of {len(result.prune.scores[WITH]):,} takes "
            f"count a from {table[0]['acc_pt']:.1%} to {best['acc_pt']:.1%}, random removal to "
            f"{best['random_acc_pt']:.1%}. Always giving the commonest answer would be right in "
            f"{result.prune.commonest[WITH, 'acc_pt']:.1%}. Count b on correlated strings goes from "
            f"{table[0]['acc_ft_cte1']:.1%} to {best['acc_ft_cte1']:.1%}. One number to be wary of: "
            "the best K was chosen on the strings it is shown for, out of "
            f"{sum(0 < r['k'] <= 15 for r in table)}.",
        ],
        [plots.plot(result.prune)],
        pd.DataFrame(table),
        "prune.csv",
        f"mf.plot(mf.prune_curve(ft, counts={result.scale.prune_counts}, random_draws="
        f"{result.scale.random_draws}, test_size={result.scale.prune_rows}, "
        f"seed={result.config.seed}))",
        captions=[
            "Where O_PT rises as the first neurons go, and not with random ones (dotted), these neurons "
            "hid it."
        ],
    )


def ablation_section(result: DemoResult) -> Section:
    """Which heads the answers rest on."""
    frame = result.ablation.frame
    task_of = {BASE: "acc_pt", WITH: "acc_ft_cte1", WITHOUT: "acc_ft_cte1"}
    mean = frame[(frame["kind"] == "mean") & (frame["task"] == frame["model"].map(task_of))]
    worst = mean.loc[mean.groupby("model", sort=False)["change"].idxmin()]
    lines = "; ".join(
        f"{r.model}: block {r.block} head {r.index} ({r.change:+.0%} from {r.untouched:.0%})"
        for r in worst.itertuples()
    )
    return Section(
        "Ablation: which heads does each answer rest on?",
        [
            "Every attention head alone is silenced (zero) or replaced by its mean over the same "
            "strings (mean), which keeps what it always says and removes what it says about the "
            f"string. Cells show the change in accuracy; n = {int(frame['n'].max())}, so changes of "
            "a few points are noise.",
            "The head that matters most for what each model was trained on last (count a for the "
            f"base, count b for the others), by mean ablation. {lines}. The same head on top "
            "before and after suggests that it was taken over rather than replaced; one head at a "
            "time, with nothing else varied, it does not show it.",
        ],
        [plots.plot(result.ablation)],
        frame,
        "ablation.csv",
        f"mf.plot(mf.ablate_heads(base, ft, size={result.scale.ablation_rows}, "
        f"seed={result.config.seed}))",
        captions=["The redder a cell, the more the answers rest on this head; white: not at all."],
    )


def patching_section(result: DemoResult) -> Section:
    """What one model does with the other's activations."""
    rows = []
    both: dict[Direction, str] = {
        "base→finetuned": "count a returns to the fine-tuned model with the base's",
        "finetuned→base": "the base answers as the fine-tuned model with its",
    }
    for direction, told in both.items():
        best = result.patching.best("acc_pt", direction, ["attn_out", "mlp_out"])
        if best:
            rows.append(
                f"{told} {best['site']} ({best['recovered']:.0%} of the gap, on rows it was not chosen on)"
            )
    sentence = "; ".join(rows) + "." if rows else "The models score alike: there is no gap."
    return Section(
        "Patching across: where does the change act?",
        [
            "Both models read the same string; at one place the activation of one is put into the "
            "other, at all positions. 100% means that the patched model scores as the one the "
            "activation came from. As a check, each model is first patched with itself, which must "
            f"change nothing. {sentence[0].upper()}{sentence[1:]}",
            "What recovers with the base's activation at a place says that all that comes after it "
            "still serves the old answer. It does not say that the fine-tuned model could still "
            "produce that activation.",
        ],
        [plots.plot(result.patching)],
        result.patching.frame,
        "patching.csv",
        f"mf.plot(mf.patch_across(base, ft, size={result.scale.look_rows}, "
        f"seed={result.config.seed}))",
        captions=[
            "Places at 100% carry all that tells the two models apart, those at 0 nothing of it."
        ],
    )


def attention_section(result: DemoResult) -> Section:
    """Whose attention and which answers moved."""
    frame = result.attention.frame
    most = frame.loc[frame["js"].idxmax()]
    outputs = result.outputs.frame.set_index("measure")
    return Section(
        "Attention and answers: what looks different?",
        [
            "How far each head's attention pattern at the answer position moved, as Jensen-Shannon "
            f"divergence: most in block {most['block']} head {most['head']}, by {most['js']:.3f} of at "
            f"most 1 bit [{most['ci_low']:.3f}, {most['ci_high']:.3f}]. Below, that head on one string: "
            "attending token down, attended token across.",
            f"Asked about a, both models give the same answer on {outputs.loc['agreement', 'value']:.1%} "
            f"of {int(outputs['n'].max())} strings.",
        ],
        [plots.plot(result.attention), plots.plot(result.maps)],
        result.attention.frame,
        "attention.csv, outputs.csv, moved_most.csv",
        f"mf.plot(mf.diff_attention(base, ft, size={result.scale.look_rows}, "
        f"seed={result.config.seed}))\n"
        f"mf.plot(mf.attention_maps(base, ft, heads=[({most['block']}, {most['head']})], size=1, "
        f"seed={result.config.seed}))\nmf.diff_outputs(base, ft, size={result.scale.look_rows}, "
        f"seed={result.config.seed}).examples",
        captions=[
            "The brighter a cell, the more that head's attention moved.",
            "The head that moved most, on one string, model by model.",
        ],
    )


def diff_section(result: DemoResult) -> Section:
    """How far weights and activations moved, and the line between the models."""
    frame = result.weight_diff.frame
    matrices = frame[frame["component"].str.contains("W_")]
    lines = "; ".join(
        f"{model}: median {rows['relative_change'].median():.2%}, most in "
        f"{rows.loc[rows['relative_change'].idxmax(), 'parameter']} "
        f"({rows['relative_change'].max():.1%})"
        for model, rows in matrices.groupby("model", sort=False)
    )
    return Section(
        "Differences: how far did weights and activations move?",
        [
            f"Frobenius norm of the change of each weight matrix over that of the base. {lines}.",
            "Below, the same for activations at the answer position, on strings asked for a. A large "
            "change in the last block may be no more than another answer; a large one early is more.",
            "Last, accuracy on the straight line from the base's weights (0) to those after "
            "C<sub>Tr</sub> = 1 (1): how much of the change must be undone before the old answer is back?",
        ],
        [
            plots.plot(result.weight_diff),
            plots.plot(result.activation_diff),
            plots.plot(result.interpolation),
        ],
        result.activation_diff.frame,
        "weight_diff.csv, activation_diff.csv, interpolation.csv",
        "mf.plot(mf.diff_weights(base, ft))\n"
        f"mf.plot(mf.diff_activations(base, ft, seed={result.config.seed}))\n"
        f'mf.plot(mf.interpolate(base, ft, metrics=("accuracy",), size={result.scale.look_rows}, '
        f"seed={result.config.seed}))",
        captions=[
            "The brighter a cell, the more this weight moved, as a share of its own norm.",
            "The brighter a cell, the more this activation moved, as a share of its own norm.",
            "The base is at the left, the fine-tuned model at the right.",
        ],
    )


def revival_section(result: DemoResult) -> Section:
    """How fast the capability comes back."""
    brackets = result.revival.brackets(THRESHOLD)
    scale = result.scale
    settings = (
        f"steps={scale.reverse_steps}, stop_at={STOP_AT}, seed={result.config.seed}, "
        f"evaluation_size={scale.evaluation_rows}"
    )
    return Section(
        "Reverse fine-tuning: how fast does it come back?",
        [
            "The fine-tuned model is trained to count a again, at a smaller rate. The control "
            "(Scr.+FT) is the bundled model that was never asked about a in its pretraining, trained "
            "with the same data, rate and schedule: what it needs is what learning to count a costs "
            "a model that can count, but not a.",
            f"95% is reached and kept: {in_steps(brackets[REFT])} (reFT), "
            f"{in_steps(brackets[CONTROL])} (Scr.+FT). A run stops at {STOP_AT:.0%}.",
        ],
        [plots.plot(result.revival)],
        result.revival.frame,
        "revival.csv",
        f"back = mf.reverse_finetune(ft, {settings})\n"
        f'control = mf.scratch_finetune(mf.load("pcfg-tiny-never-a"), {settings})\n'
        'mf.plot(mf.revival({"reFT": back, "Scr.+FT": control}))',
        captions=[
            "Where reFT reaches the dotted 95% long before Scr.+FT does, something was still there."
        ],
    )


def load_line(result: DemoResult) -> str:
    """The lines that begin every snippet: where the base came from."""
    if not result.config.pretrain:
        return 'import mechft as mf\nbase = mf.load("pcfg-tiny-low").renamed("base")\n'
    steps = result.scale.pretraining_steps
    return (
        f'import mechft as mf\nbase = mf.pretrain("tiny", "low", steps={steps}, '
        f'seed={result.config.seed}, name="base")\n'
    )
