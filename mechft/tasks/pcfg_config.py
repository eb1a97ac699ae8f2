"""Settings of the PCFG setup: lengths, windows, operand priors, presets (Jain et al. 2024, App. B)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mechft.errors import require, unknown_name
from mechft.tasks.families import FAMILIES
from mechft.tasks.grammar import Grammar

GRAMMAR = Grammar()
LETTERS = ("a", "b", "c")
PAIRS = tuple(first + second for first in LETTERS for second in LETTERS)
SPECIAL = ("SOS", "SOT", "EOT", "ART", "EOS", "NULL")

OPERAND_PRIORS: dict[str, tuple[float, float, float]] = {
    "low": (0.999, 0.001, 0.0),
    "slight": (0.99, 0.01, 0.0),
    "medium": (0.9, 0.1, 0.0),
    "raised": (0.7, 0.2, 0.1),
    "high": (0.5, 0.3, 0.2),
    "never_a": (0.0, 1.0, 0.0),
}
"""P_T(a, b, c) by name. Low, medium and high are the paper's names, the two between them ours;
``never_a`` is the start of its Scr.+FT control, a model that was never asked about a."""


@dataclass(frozen=True)
class PCFGConfig:
    """Everything that defines the task.

    Attributes:
        text_length: Letters of text in a sample. Paper: 250.
        counting_window: Last positions in which C and CC count; their argument O'. Paper: 40.
        occurrence: Which occurrence I asks for, from the end; its argument. Paper: 6.
        pair_occurrence: The same for IC; pairs are rarer, so short texts need a smaller one. Paper: 6.
        lookback: Position from the end that T asks for; its argument. Paper: 40.
        operand_prior: P_T(O) for a, b, c during pretraining; sums to 1. A pair's two letters are
            drawn from it independently (the paper does not say how pairs are drawn).
        families: Task families of pretraining, equally likely. Paper: all five.
        jailbreak_families: Further tokens that ask for a count, as likely in pretraining as a family
            each, and there asked with the operand a only, whatever the prior says. They come last in the
            vocabulary. Paper (App. E.2): two, T_J1 and T_J2, beside T_NJ, which is C; elsewhere none.

    Raises:
        ConfigError: If a length or a probability is out of range, or a jailbreak family has the name of
            another token.
        UnknownNameError: If a family is not known.

    Example:
        >>> import mechft as mf
        >>> config = mf.PCFGConfig(text_length=12, counting_window=6, lookback=6)
        >>> config.families
        ('C', 'CC', 'I', 'IC', 'T')
        >>> config.operand_prior
        (0.999, 0.001, 0.0)
    """

    text_length: int = 32
    counting_window: int = 16
    occurrence: int = 3
    pair_occurrence: int = 1
    lookback: int = 16
    operand_prior: tuple[float, float, float] = OPERAND_PRIORS["low"]
    families: tuple[str, ...] = tuple(FAMILIES)
    jailbreak_families: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "operand_prior", tuple(self.operand_prior))
        object.__setattr__(self, "families", tuple(self.families))
        longest = GRAMMAR.max_length
        require(
            2 <= self.text_length <= longest,
            f"text_length lies between 2 and {longest}, the grammar's longest string; got "
            f"{self.text_length}.",
        )
        for name in ("counting_window", "lookback", "occurrence", "pair_occurrence"):
            value = getattr(self, name)
            require(
                1 <= value <= self.text_length,
                f"{name} lies between 1 and the text's {self.text_length} letters; got {value}. "
                "Make it smaller or the text longer.",
            )
        prior = self.operand_prior
        require(
            len(prior) == 3 and all(0 <= p <= 1 for p in prior) and abs(sum(prior) - 1) < 1e-9,
            "operand_prior gives a probability in 0..1 to each of a, b, c, and they sum to 1; got "
            f"{prior}, which sums to {sum(prior):g}.",
        )
        require(bool(self.families), "families names at least one task family; got none.")
        for family in self.families:
            if family not in FAMILIES:
                raise unknown_name("task family", family, FAMILIES)
        self._check_jailbreak_families()

    def _check_jailbreak_families(self) -> None:
        given = self.jailbreak_families
        require(
            not isinstance(given, str),
            f'jailbreak_families is a tuple of names, such as ("J1", "J2"); got {given!r}. Write '
            f"({given!r},) for a single one.",
        )
        object.__setattr__(self, "jailbreak_families", tuple(given))
        taken = set(_plain_tokens(self.text_length))
        for family in self.jailbreak_families:
            require(
                bool(family) and family not in taken,
                "A jailbreak family is a token of its own; got "
                f"{family!r}, which is empty or names a token already. Choose another name, such as "
                "'J1'.",
            )
            taken.add(family)


def token_names(config: PCFGConfig) -> list[str]:
    """Every token of the task in the order of ids; those of jailbreak families come last.

    So a task with jailbreak families has the ids of the same task without them.
    """
    return [*_plain_tokens(config.text_length), *config.jailbreak_families]


def _plain_tokens(text_length: int) -> list[str]:
    numbers = [str(n) for n in range(text_length + 1)]
    return [*LETTERS, *PAIRS, *SPECIAL, *FAMILIES, *numbers]


PRESETS: dict[str, PCFGConfig] = {
    "tiny": PCFGConfig(32, counting_window=16, occurrence=3, pair_occurrence=1, lookback=16),
    "small": PCFGConfig(96, counting_window=32, occurrence=6, pair_occurrence=2, lookback=32),
    "paper": PCFGConfig(250, counting_window=40, occurrence=6, pair_occurrence=6, lookback=40),
}
"""Sizes of the task by name; tiny shortens texts and windows until a laptop's CPU is enough."""


def preset(name: str, prior: str = "low") -> PCFGConfig:
    """The task of a preset with a named operand prior.

    Raises:
        UnknownNameError: If either name is not known.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    if prior not in OPERAND_PRIORS:
        raise unknown_name("operand prior", prior, OPERAND_PRIORS)
    return PCFGConfig(**{**asdict(PRESETS[name]), "operand_prior": OPERAND_PRIORS[prior]})
