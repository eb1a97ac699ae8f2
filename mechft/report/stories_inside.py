"""The sections of the stories report on what is inside models: probes, and base beside deleted model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechft.experiments.stories.result import StoriesResult
from mechft.plots import stories as plots
from mechft.plots.stories_style import with_models
from mechft.report.render import Section
from mechft.report.stories_words import by_model, code, listing

if TYPE_CHECKING:
    import pandas as pd

PRUNED = 10
"""Neurons removed, of which the report tells in words; fixed, not chosen by a result."""

_PATCHED = {
    "base→finetuned": "At 100% the deleted model is as sure of the feature's word as the base, by the base's "
    "activation at this site alone.",
    "finetuned→base": "At 100% the base is as unsure of it as the deleted model, by that model's activation.",
}
"""How to read the figures of patching, by direction."""

_FORK = {
    "Twist": "it is the one that is expected, or it is not.",
    "Conflict": "two want different things, and now they quarrel or find a way.",
}
"""What is decided there."""


def inside_sections(result: StoriesResult) -> list[Section]:
    """The sections that a result has tables of."""
    makers = {
        "probes": _probes,
        "weights": _weights,
        "activations": _activations,
        "decisions": _decisions,
        "pruning": _pruning,
        "patching": _patching,
    }
    return [make(result) for table, make in makers.items() if len(result.tables.get(table, ()))]


def _first_rate(result: StoriesResult) -> str:
    return result.scale.rates[0][0]


def _at_first_rate(result: StoriesResult, table: str) -> pd.DataFrame:
    """Rows of models without a rate, and of those deleted at the first."""
    rows = with_models(result.tables[table])
    return rows[rows["rate"].isin(["", _first_rate(result)])]


def _probes(result: StoriesResult) -> Section:
    table, feature, rate = result.tables["probes"], result.config.feature, _first_rate(result)
    told = feature in set(table["target"])
    calls = [f'probe_curves(probes, "{feature}")'] * told
    calls.append(f'feature_probe_curves(probes, "{rate}")')
    figures = [plots.probe_curves(table, feature)] if told else []
    return Section(
        "Figs. 31-38: is the feature still there to be read?",
        [
            "A linear probe for each feature on the residual stream after each block, on the mean of a "
            "story's last ten positions; stories stand without their instruction. What a random model reads "
            "as well (dash-dotted) is in the words, and what a model that never saw the feature reads as "
            "well (dashed) needs no knowledge of it.",
            _probe_words(result)
            if told
            else f"All labelled or held-out stories have a {feature}, or none has: there is no probe of it.",
        ],
        [*figures, plots.feature_probe_curves(table, rate)],
        data="probes.csv",
        code=code(result, ["probes"], calls),
        captions=[
            *[f"What a line has above the random model's is what the model makes of a {feature}."]
            * told,
            "The same for every feature: deletion should have moved no other.",
        ],
    )


def _probe_words(result: StoriesResult) -> str:
    """Where the base reads the feature best above the commonest answer, and what others read there."""
    feature = result.config.feature
    rows = _at_first_rate(result, "probes")
    rows = rows[rows["target"] == feature]
    own, random = (rows[rows["control"] == control] for control in ("none", "random_model"))
    base = own[own["model"] == "base"] if (own["model"] == "base").any() else own
    gain = base.groupby("block")[["accuracy", "majority"]].mean()
    block = (gain["accuracy"] - gain["majority"]).idxmax()
    here = own[own["block"] == block]
    control = random[random["block"] == block]["accuracy"]
    found = by_model(here, "accuracy")
    if len(control):
        found["random weights"] = f"{control.mean():.1%}"
    found["always the commonest answer"] = f"{here['majority'].mean():.1%}"
    return listing(f"Where the base's {feature} is read best, after block {block}:", found)


def _weights(result: StoriesResult) -> Section:
    rows = with_models(result.tables["weights"])
    found = {
        f"{protocol}, rate {rate}": f"{part.min():.3g} to {part.max():.3g}, most in "
        + ("what lies outside the blocks" if part.idxmax() < 0 else f"block {part.idxmax()}")
        for (protocol, rate), part in (
            (labels, part.groupby("block")["relative_change"].mean())
            for labels, part in rows.groupby(["protocol", "rate"], sort=False)
        )
    }
    return Section(
        "What deletion changed: weights",
        [
            "How far each block's weights moved, as a share of their own norm; embedding, unembedding and "
            "the last norm lie outside the blocks.",
            listing("Least and most of all blocks:", found),
        ],
        [plots.weight_curves(result.tables["weights"])],
        data="weights.csv",
        code=code(result, ["weights"], ["weight_curves(weights)"]),
        captions=["The higher, the more a block was rewritten."],
    )


def _activations(result: StoriesResult) -> Section:
    feature = result.config.feature
    rows = with_models(result.tables["activations"])
    rows = rows[rows["component"] == "resid_post"]
    last = rows[rows["block"] == rows["block"].max()]
    with_feature = by_model(last[last["of"] == "with"], "cka_debiased", ".3f")
    without = by_model(last[last["of"] == "without"], "cka_debiased", ".3f")
    found = {name: f"{told} and {without.get(name, '–')}" for name, told in with_feature.items()}
    return Section(
        "What deletion changed: activations",
        [
            "Linear CKA of both models' residual streams on the same stories: 1 means the same up to "
            f"rotation and scale. A deletion that touches a {feature} alone would leave stories without one "
            "at 1. The table has how far the next tokens that are predicted differ.",
            listing(f"After the last block, stories with a {feature} and without:", found),
        ],
        [plots.cka_curves(result.tables["activations"], feature)],
        _outputs_table(result.tables["outputs"]) if "outputs" in result.tables else None,
        "outputs.csv; the figure: activations.csv",
        code(result, ["activations"], [f'cka_curves(activations, "{feature}")']),
        captions=[
            f"Where solid lies below dotted, deletion moved stories with a {feature} more than the others."
        ],
    )


def _outputs_table(table: pd.DataFrame) -> pd.DataFrame:
    """How far predictions moved: a row a model and kind of story, means over seeds."""
    rows = with_models(table)
    index = ["protocol", "rate", "of"]
    wide = rows.pivot_table(index=index, columns="measure", values="value", sort=False)
    return wide.rename_axis(columns=None).reset_index().rename(columns={"of": "stories"})


def _decisions(result: StoriesResult) -> Section:
    table, feature = with_models(result.tables["decisions"]), result.config.feature
    having = table[table["of"] == "with"]
    base = having[having["who"] == "base"]["accuracy"].mean()
    found = {"base": f"{base:.1%}", **by_model(having[having["who"] == "deleted"], "accuracy")}
    return Section(
        "What deletion changed: the word that decides",
        [
            f"Stories held out are cut off before the word that tells whether they have a {feature}: "
            f"{_FORK[feature]} The instruction stands before them, and says which is wanted. A model is "
            "right if it finds the story's own word likelier than the other; who always decides for one "
            "kind is right in all of one panel and in none of the other.",
            listing(f"Right in stories with a {feature}:", found),
        ],
        [plots.decision_bars(result.tables["decisions"], feature)],
        data="decisions.csv",
        code=code(result, ["decisions"], [f'decision_bars(decisions, "{feature}")']),
        captions=[
            f"A deletion lowers the bars of stories with a {feature}, not those of stories without."
        ],
    )


def _pruning(result: StoriesResult) -> Section:
    rows, feature = with_models(result.tables["pruning"]), result.config.feature
    rows = rows[rows["task"] == "with"]
    few = max((k for k in rows["k"] if k <= PRUNED), default=0)
    random = rows["score"] == "random"
    whole, after, control = (
        by_model(part, "accuracy")
        for part in (
            rows[~random & (rows["k"] == 0)],
            rows[~random & (rows["k"] == few)],
            rows[random & (rows["k"] == few)],
        )
    )
    found = {
        name: f"{told} → {after.get(name, '–')} (random ones {control.get(name, '–')})"
        for name, told in whole.items()
    }
    return Section(
        "Pruning: does removing neurons bring it back?",
        [
            "Neurons of the deleted model are ranked once by gradient × weight of the loss on the "
            f"{feature}'s word (beside the other one), on stories of their own, and the K that most hurt "
            "it are set to zero. Behind a wrapper a capability comes back, at no cost in stories without "
            "it; what only trades one kind of story for the other is no capability. "
            "Random neurons (dotted) bring nothing.",
            listing(
                f"Right in stories with a {feature}, whole model → {few} neurons removed:", found
            ),
        ],
        [plots.pruning_curves(result.tables["pruning"], feature)],
        data="pruning.csv",
        code=code(result, ["pruning"], [f'pruning_curves(pruning, "{feature}")']),
        captions=[
            f"Where the {feature}'s word comes back as the first neurons go, stories without it stay right, "
            "and random neurons do nothing, these neurons hid it."
        ],
    )


def _patching(result: StoriesResult) -> Section:
    table, feature = with_models(result.tables["patching"]), result.config.feature
    directions = [
        direction
        for direction in dict.fromkeys(table["direction"])
        if table[table["direction"] == direction]["recovered"].notna().any()
    ]
    readout = table[(table["site"] == "readout") & (table["direction"] == "base→finetuned")]
    found = by_model(readout[readout["recovered"].notna()], "recovered", ".0%")
    said = listing(
        "The base's readout alone (last norm and unembedding), in the deleted model, recovers of the gap:",
        found,
    )
    if not directions:
        said = "Base and deleted models do not differ in how likely they find it: there is no gap."
    calls = [f'patching_dots(patching, "{direction}", "{feature}")' for direction in directions]
    return Section(
        "Patching: where was it deleted?",
        [
            "One model computes with the other's activation at one site (all positions), on stories cut off "
            f"before the {feature}'s word. Where the base's activation gives the deleted model its "
            "probability (beside the other word) back, what was changed acts at or before that site.",
            said,
        ],
        [
            plots.patching_dots(result.tables["patching"], direction, feature)
            for direction in directions
        ],
        data="patching.csv",
        code=code(result, ["patching"], calls) if calls else "",
        captions=[_PATCHED[direction] for direction in directions],
    )
