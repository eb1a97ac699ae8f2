"""The sections of the stories report on behaviour: what models write, losses, bringing back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mechft.experiments.paper_tables import table1
from mechft.experiments.stories.claims import by
from mechft.experiments.stories.result import StoriesResult
from mechft.plots import stories as plots
from mechft.plots.stories_style import MODEL, model_name, pooled_shares, with_models
from mechft.report.render import Section
from mechft.report.stories_words import code, deleted_models, listing, share_words

if TYPE_CHECKING:
    import pandas as pd


def behaviour_sections(result: StoriesResult) -> list[Section]:
    """The sections that a result has tables of."""
    sections = []
    if "writing" in result.tables:
        sections.append(_writing(result))
    if "reversal_writing" in result.tables:
        sections += [_return(result), _beside_the_paper(result)]
    if any(name in result.tables for name in plots.STAGES):
        sections.append(_losses(result))
    return sections


def _judges(result: StoriesResult, table: str) -> list[str]:
    """Whose verdicts a table holds, the one that claims go by first."""
    first = by(result)
    return sorted(set(result.tables[table]["by"]), key=lambda judge: (judge != first, judge))


def _judge(name: str) -> str:
    """A judge in words."""
    return {"rule": "the generator's own rule"}.get(name, f"the {name}")


def _writing(result: StoriesResult) -> Section:
    table, feature = result.tables["writing"], result.config.feature
    judges = _judges(result, "writing")
    rows = table[table["by"] == judges[0]]

    def told(model: str, asked: bool = True, protocol: str = "", rate: str = "") -> str:
        return share_words(rows, model=model, protocol=protocol, rate=rate, asked=asked)

    found = {
        "base": f"{told('base')}, not asked {told('base', False)}",
        "never saw one": told("never"),
    }
    for labels in deleted_models(rows):
        found[model_name("deleted", *labels)] = told("deleted", True, *labels)
    calls = [f'writing_bars(writing, "{judge}", "{feature}")' for judge in judges]
    return Section(
        "Table 1: what models write when asked",
        [
            f"Every model writes stories to the same instructions held out: those that ask for a {feature}, "
            "and as many that do not. Shown is the share that has one, by "
            f"{' and by '.join(map(_judge, judges))}.",
            listing(f"By the {judges[0]}, asked (95% Wilson interval):", found),
        ],
        [plots.writing_bars(table, judge, feature) for judge in judges],
        _shares_table(table),
        "writing.csv",
        code(result, ["writing"], calls),
        captions=[
            f"By {_judge(judge)}. A deletion that touches what was asked for alone lowers the bars of "
            f"stories asked for a {feature}, and no others."
            for judge in judges
        ],
    )


def _shares_table(table: pd.DataFrame) -> pd.DataFrame:
    """All shares in percent, over all seeds together."""
    cells = pooled_shares(with_models(table), [*MODEL, "asked", "by"])
    names = ["share", "ci_low", "ci_high", "unclear"]
    cells[names] = (100 * cells[names]).round(1)
    return cells.rename(columns={name: f"{name}, %" for name in names})


def _return(result: StoriesResult) -> Section:
    table, feature = result.tables["reversal_writing"], result.config.feature
    writing = result.tables.get("writing", table.iloc[:0])
    judges = _judges(result, "reversal_writing")
    rows = table[(table["by"] == judges[0]) & table["asked"].astype(bool)]
    steps = sorted(set(rows["step"]))
    models = [("never", "", ""), *(("deleted", *labels) for labels in deleted_models(rows))]
    found = {
        model_name(*labels): " → ".join(
            share_words(
                rows, model=labels[0], protocol=labels[1], rate=labels[2], step=step
            ).split()[0]
            for step in steps
        )
        for labels in models
    }
    calls = [
        f'return_curves(reversal_writing, writing, "{judge}", "{feature}")' for judge in judges
    ]
    return Section(
        "Fig. 11 and Table 1: how fast it comes back",
        [
            f"Deleted models are trained on stories with a {feature} only. So is the model pretrained "
            "without one (dashed): what comes back sooner than it is learned there was still in the model. "
            "The lower row says how much of it is asked for: a model that always writes one has lost the "
            "difference.",
            listing(
                f"By the {judges[0]}, asked, after {', '.join(f'{step:,}' for step in steps)} steps:",
                found,
            ),
        ],
        [plots.return_curves(table, writing, judge, feature) for judge in judges],
        _return_table(table, judges[0]),
        "reversal_writing.csv",
        code(result, ["reversal_writing", "writing"], calls),
        captions=[
            f"By {_judge(judge)}. A line that rises to the base's band before the dashed one does learns "
            "nothing new: it was still there."
            for judge in judges
        ],
    )


def _beside_the_paper(result: StoriesResult) -> Section:
    judge = by(result)
    table = result.tables["reversal_writing"]
    rows = table[(table["by"] == judge) & table["asked"].astype(bool)]
    steps = sorted(set(rows["step"]))
    ours = pooled_shares(with_models(rows), [*MODEL, "step"]).set_index(
        ["protocol", "rate", "step"]
    )
    theirs = table1()
    told = []
    for protocol, rate in sorted({(protocol, rate) for protocol, rate, _ in ours.index}):
        shares = [ours.loc[(protocol, rate, step), "share"] for step in steps]
        paper = theirs.get((protocol, rate))
        told.append(
            {
                "model": model_name("deleted" if protocol else "never", protocol, rate),
                f"here, after {_listed(steps)} steps, %": _arrows(shares),
                f"paper, after {_listed(theirs['', ''])} steps, %": _arrows(paper.values())
                if paper
                else "not in the table",
            }
        )
    import pandas as pd

    return Section(
        "Table 1: beside the paper's numbers",
        [
            f"Stories with a {result.config.feature} among those asked for one, while it is brought back; in "
            "the paper with a Twist, of 16 stories a cell. Models, stories, rates and steps differ: what can "
            "be compared is the shape of a row.",
        ],
        table=pd.DataFrame(told),
        data="reversal_writing.csv",
        table_open=True,
    )


def _listed(steps: Iterable[int]) -> str:
    return ", ".join(f"{step:,}" for step in steps)


def _arrows(shares: Iterable[float]) -> str:
    return " → ".join(f"{100 * share:.0f}" for share in shares)


def _return_table(table: pd.DataFrame, judge: str) -> pd.DataFrame:
    """Shares in percent by step, asked and not, by one judge, over all seeds together."""
    rows = with_models(table)
    cells = pooled_shares(rows[rows["by"] == judge], [*MODEL, "asked", "step"])
    cells["told"] = [
        f"{100 * share:.0f} [{100 * low:.0f}, {100 * high:.0f}]"
        for share, low, high in zip(cells["share"], cells["ci_low"], cells["ci_high"], strict=True)
    ]
    wide = cells.pivot(index=[*MODEL, "asked"], columns="step", values="told")
    wide = wide.rename(columns=lambda step: f"step {step:,}, %").rename_axis(columns=None)
    return wide.reset_index()


def _losses(result: StoriesResult) -> Section:
    feature = result.config.feature
    stages = [stage for stage in plots.STAGES if stage in result.tables]
    said = [_loss_words(result.tables[stage], feature, stage) for stage in stages]
    return Section(
        "Losses, with the feature and without",
        [
            f"The loss of stories held out, with their instructions, whether they have a {feature} or not. A "
            "deletion that only hides would leave the text of such stories as likely as it was.",
            *said,
        ],
        [plots.loss_curves(result.tables[stage], stage, feature) for stage in stages],
        data=", ".join(f"{stage}.csv" for stage in stages),
        code=code(
            result, stages, [f'loss_curves({stage}, "{stage}", "{feature}")' for stage in stages]
        ),
        captions=[
            f"{plots.STAGES[stage][0].format(feature)}: the lower, the likelier the model finds such stories."
            for stage in stages
        ],
    )


def _loss_words(table: pd.DataFrame, feature: str, stage: str) -> str:
    """The losses of every model at a stage's first and last step, in words."""
    rows = with_models(table)
    found = {}
    for labels, part in rows.groupby(MODEL, sort=False):
        mean = part.groupby(["texts", "step"])["loss"].mean()
        found[model_name(*labels)] = ", ".join(
            f"{texts} {mean[texts].iloc[0]:.3f} → {mean[texts].iloc[-1]:.3f}"
            for texts in dict.fromkeys(part["texts"])
        )
    return listing(
        f"{plots.STAGES[stage][0].format(feature)}, nats a token, first → last step:", found
    )
