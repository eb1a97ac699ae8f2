"""The demo's report: what was expected, what was found, and how to make every part of it again."""

from __future__ import annotations

import html
from pathlib import Path

from mechft.experiments.demo_checks import in_steps
from mechft.experiments.demo_result import (
    BASE,
    CONTROL,
    REFT,
    THRESHOLD,
    WITH,
    DemoResult,
    best_removal,
    prune_table,
)
from mechft.report.demo_sections import (
    ablation_section,
    attention_section,
    behaviour_section,
    diff_section,
    load_line,
    patching_section,
    probe_section,
    prune_section,
    revival_section,
)
from mechft.report.render import Section, checks_table, render, table_html, write_report
from mechft.training.trained import package_versions


def write_demo_report(result: DemoResult) -> Path:
    """Write report.html of a demo into its folder and return its path."""
    return write_report(result.config.out / "report.html", demo_report(result))


def demo_report(result: DemoResult) -> str:
    """The HTML of the demo's report."""
    base, c1 = result.behaviour[BASE], result.behaviour[WITH]
    table = prune_table(result.prune, WITH)
    best = best_removal(table)
    brackets = result.revival.brackets(THRESHOLD)
    held = sum(check.holds is True for check in result.checks)
    lead = [
        "A small transformer was pretrained to answer questions about strings of a, b and c; almost "
        "only ever about <b>a</b> (operand prior .999). It was then fine-tuned to count <b>b</b>. "
        "Is its ability to count a gone, or hidden?",
        f"It counted a with {base['acc_pt_cte0'].value:.1%} accuracy. Fine-tuned where count(b) = "
        f"count(a) + 1 always held (C<sub>Tr</sub> = 1), it answers questions about a right in "
        f"{c1['acc_pt_cte0'].value:.1%}. With {best['k']} of "
        f"{len(result.prune.scores[WITH]):,} neurons removed it is {best['acc_pt']:.1%}, on other "
        f"strings. Reverse fine-tuning reaches 95%: {in_steps(brackets[REFT])}; a model that never "
        f"counted a: {in_steps(brackets[CONTROL])}.",
        f"{held} of {len(result.checks)} expectations hold, and the tools together say "
        f"<b>{result.diagnosis.verdict}</b> (below).",
    ]
    if result.config.quick:
        lead.append(
            "<span class='warning'>A --quick run: too few steps and rows to conclude anything from. "
            "It shows that everything runs.</span>"
        )
    sections = [
        _checks_section(result),
        _verdict_section(result),
        behaviour_section(result),
        probe_section(result),
        prune_section(result),
        ablation_section(result),
        patching_section(result),
        diff_section(result),
        attention_section(result),
        revival_section(result),
        _provenance_section(result),
    ]
    return render("What did fine-tuning do to this model?", lead, sections)


def _checks_section(result: DemoResult) -> Section:
    return Section(
        "What was expected, and what was found",
        [
            "Each expectation follows from Jain et al. (ICLR 2024); its threshold was fixed before "
            "the run. Brackets are 95% Wilson intervals over test strings. They say how precisely "
            "this one model was measured, not how another training run would come out. Another "
            "--seed fine-tunes on other strings, and with --pretrain starts from another base; the "
            "control's start is the bundled one in every case.",
            checks_table(result.checks, "Expectation"),
        ],
    )


def _verdict_section(result: DemoResult) -> Section:
    import pandas as pd

    found = result.diagnosis
    votes = pd.DataFrame(
        [
            (v.tool, v.finding, v.weight, v.detail, f"{v.meaning}: {_number(v.value, v.low, v.high)}", v.rule)
            for v in found.frame.itertuples()
        ],
        columns=["Tool", "Vote", "Weight", "Found", "Number", "Rule"],
    )  # fmt: skip
    table = table_html(votes, label="Votes", file="votes.csv", words=True)
    return Section(
        "Retained, wrapped or damaged?",
        [
            f"Count a after C<sub>Tr</sub> = 1: <b>{found.verdict}</b>. {html.escape(found.reason)}.",
            "Each tool votes by a rule fixed beforehand, where its whole 95% interval lies on one side. "
            "Tools that put something of the base back (patching, interpolation) weigh half: they may "
            "bring the capability along. A tool that cannot tell does not vote.",
            *([table] if len(votes) else []),
        ],
        code=load_line(result) + 'ft = mf.finetune(base, "b", train_correlation=1.0, '
        f"steps={result.scale.finetuning_steps}, seed={result.config.seed})\n"
        'print(mf.diagnose(base, ft, mf.load("pcfg-tiny-never-a")))',
    )


def _number(value: float, low: float, high: float) -> str:
    if value != value:
        return "none"
    return f"{value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low == low else "")


def _provenance_section(result: DemoResult) -> Section:
    config, scale = result.config, result.scale
    tuning = result.histories[WITH].lineage[-1]
    command = f"mechft demo --out {config.out} --seed {config.seed}"
    command += " --pretrain" if config.pretrain else ""
    command += " --quick" if config.quick else ""
    versions = ", ".join(f"{name} {number}" for name, number in package_versions().items())
    start = "pretrained for this run" if config.pretrain else "the bundled pcfg-tiny-low"
    return Section(
        "What was run, and how to run it again",
        [
            f"Base: {start}. Fine-tuning: {scale.finetuning_steps} steps at "
            f"{tuning['learning_rate']:g} on the answer alone, {tuning['batch_size']} strings a step. "
            f"Reverse fine-tuning: up to {scale.reverse_steps} steps at "
            f"{result.histories[REFT].lineage[-1]['learning_rate']:g}. "
            f"Seed {config.seed}. Versions: {versions}. One seed and one size of model: see "
            "mechft's README for what was found over seeds, and the paper for larger models.",
        ],
        code=command,
    )
