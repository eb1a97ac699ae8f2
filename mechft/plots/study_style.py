"""What things are called, and their colours, in all figures of the PCFG study."""

from __future__ import annotations

from mechft.plots.colours import INKS, colour
from mechft.plots.style import TASK_NAMES

# Parts of matplotlib's plasma and viridis: brightness rises evenly, and no end is lost on white.
C_TR_RAMP = ("#0d0887", "#46039f", "#7201a8", "#9c179e", "#bd3786", "#d8576b", "#ed7953", "#fb9f3a")
"""From C_Tr = 0 to 1."""
SHARE_RAMP = ("#440154", "#3e4989", "#31688e", "#1f9e89", "#6ece58")
"""From the smallest share of pretraining data to the largest."""
RATES = {"L": "#000000", "M": "#56B4E9", "S": "#999933"}
PRIORS = {"low": "#D55E00", "medium": "#009E73", "high": "#0072B2"}
SYMBOLS = {"low": "circle", "medium": "diamond", "high": "square"}
CONTROLS = {"never_a": colour("Scr.+FT"), "untrained": colour("Scr.")}
KINDS = {
    "reFT": ("reFT", "", "solid"),
    "randFT": ("reFT after randFT", "", "dot"),
    "Scr.+FT": ("Scr.+FT", colour("Scr.+FT"), "solid"),
    "Scr.": ("Scr.", colour("Scr."), "dash"),
}
"""Reversals: what each is called, its colour ("": its prior's) and dash."""
NAMES = {
    **TASK_NAMES,
    "acc_pt_plain": "O_PT, plain strings",
    "acc_ft_plain": "O_FT, plain strings",
    "acc_randomised": "asked for O_PT, answers r(x, O_FT)",
}
"""Questions in words."""
STRINGS = {"1": "correlated test strings", "0": "uncorrelated test strings"}
"""By the last character of a question's name."""
TICKS_APART = 0.15
"""Of a panel's width, for its ticks not to touch."""


def question_name(evaluation: object) -> str:
    """A question in words."""
    return NAMES.get(str(evaluation), str(evaluation))


def question_colour(evaluation: object) -> str:
    """The colour of a question's operand: tests with and without the correlation differ by their dash."""
    operands = {"acc_pt": INKS[0], "acc_ft": INKS[1], "acc_randomised": INKS[4]}
    return next(
        (ink for name, ink in operands.items() if str(evaluation).startswith(name)), INKS[3]
    )
