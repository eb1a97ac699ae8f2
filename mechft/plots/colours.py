"""Colours and markers of all figures: one for each model and each question, whatever the figure.

Models have the colours of Okabe & Ito (2008), questions those of Paul Tol's muted scheme (2021), so that a
blue line is never both the base and a question. Both are told apart under the common colour
blindnesses; a marker of its own tells each colour apart in grey print.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of models."""
INKS = ("#332288", "#999933", "#882255", "#44AA99", "#CC6677", "#117733", "#AA4499")
"""Of questions, and of what else is no model."""
GREY = "#666666"
"""Of words, reference lines and what is the same for all; 5.7:1 on white."""
GOOD, BAD = INKS[3], INKS[4]
"""Right and wrong answers, votes for and against."""

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star")
_MARKERS = {
    ink: symbol for inks in (PALETTE, INKS) for ink, symbol in zip(inks, _SYMBOLS, strict=True)
}
_MODELS = {
    "base": PALETTE[0],
    "fine-tuned": PALETTE[1],
    "finetuned": PALETTE[1],
    "C_Tr = 1": PALETTE[1],
    "reFT": PALETTE[1],
    "reFT after C_Tr = 1": PALETTE[1],
    "C_Tr = 0": PALETTE[2],
    "Scr.+FT": PALETTE[3],
    "pcfg-tiny-never-a": PALETTE[3],
    "Scr.": PALETTE[4],
    "random change": PALETTE[5],
}
_QUESTIONS = {
    "acc_pt": INKS[0],
    "acc_pt_cte0": INKS[0],
    "acc_pt_plain": INKS[0],
    "acc_ft": INKS[1],
    "acc_ft_cte1": INKS[1],
    "acc_ft_plain": INKS[1],
    "acc_ft_cte0": INKS[2],
    "acc_pt_cte1": INKS[3],
    "acc_randomised": INKS[4],
}


def colour(model: str, place: int = 0) -> str:
    """A model's colour: fixed for the usual names, by place for others."""
    return _MODELS.get(model, PALETTE[place % len(PALETTE)])


def model_colours(models: Iterable[object], first: int = 0) -> dict[str, str]:
    """A colour for each model of a figure, no two alike while there are colours.

    Args:
        models: Their names, the base first; repeats do no harm.
        first: Colours to leave to models that the figure does not show: 1 where the base is not drawn.
    """
    return _allotted(models, _MODELS, PALETTE, first)


def question_colours(questions: Iterable[object]) -> dict[str, str]:
    """A colour for each question of a figure: fixed for those of the recipes, by place for others."""
    return _allotted(questions, _QUESTIONS, INKS, 0)


def _allotted(
    names: Iterable[object], fixed: Mapping[str, str], inks: Sequence[str], first: int
) -> dict[str, str]:
    """The fixed colours, then for each other name the first free one from its place on."""
    found: dict[str, str] = {}
    ordered = list(dict.fromkeys(map(str, names)))
    for name in ordered:
        if name in fixed and fixed[name] not in found.values():
            found[name] = fixed[name]
    for place, name in enumerate(ordered, first):
        if name not in found:
            turned = [inks[(place + i) % len(inks)] for i in range(len(inks))]
            found[name] = next((ink for ink in turned if ink not in found.values()), turned[0])
    return {name: found[name] for name in ordered}


def marker(ink: str) -> str:
    """The marker that goes with a colour."""
    return _MARKERS.get(ink, "circle")


def translucent(hex_colour: str, opacity: float) -> str:
    """A colour for bands behind lines."""
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
