"""Twist: what is expected, and what turns out. A twist is a difference between the two, and nothing else.

A set-up names two candidates and says which of them people expect; the reveal names the true one, and may
name the other too. Every sentence below occurs with and without a twist, and is drawn without looking at
which it is: no word, and no sum over words, says whether a story has one. To tell, one must read who
was expected, and compare.
"""

from __future__ import annotations

from mechft.tasks.stories.procedural.plots import PLOTS
from mechft.tasks.stories.procedural.templates import Telling, patterns

EXPECTATION = Telling(
    plain=(
        "{hero} was sure that {claim}. It could not be {other}, {he} said.",
        "It could be {other}, of course. But {hero} thought that {claim}.",
        "At first, {friend} thought that {nay}. Then both of them were sure that {claim}.",
        "Could it be {other}? No, everyone agreed that {claim}.",
        "{hero} believed that {claim}. Nobody believed that {nay}.",
        "{friend} did not think that {nay}. {Fhe} was sure that {claim}.",
        "{friend} guessed that {claim}. {hero} nodded, for it could hardly be {other}.",
        "There were two ideas. One was that {nay}, and the better one was that {claim}.",
        "There were two ideas. The better one was that {claim}, and the other was that {nay}.",
        "Some said that {nay}. {hero} shook {his} head and said that {claim}.",
        "Everyone said that {claim}, and not {other}.",
    ),
    spoken=(
        '"I am sure that {said}," said {hero}. "It cannot be {other}."',
        '"Could it be {other}?" asked {friend}. "No, I know that {said}," said {hero}.',
        '"I do not think that {unsaid}," said {friend}. "I think that {said}."',
        '"Everyone can see that {said}," said {friend}. "How could it be {other}?"',
        '"Some say that {unsaid}," said {hero}. "But I think that {said}."',
        '"I bet that {said}," said {friend}. "It will not be {other}," said {hero}.',
        '"It must be {guess} and not {other}," said {hero}.',
        '"Not {other}! It must be {guess}," said {friend}.',
    ),
)
"""Which of two candidates people expect: {claim} or {said} of {guess}, {nay} or {unsaid} of {other}."""

REVEAL = Telling(
    plain=(
        "{It} was {answer}!",
        "{It} was {answer} and not {rest}.",
        "{It} was not {rest}. {It} was {answer}.",
        "Now they knew it. {It} was {answer}.",
    ),
    spoken=(
        '"{It} was {answer}!" cried {friend}.',
        '"So {it} was {answer} and not {rest}," said {hero}.',
        '"{It} was not {rest}," said {friend}. "{It} was {answer}!"',
    ),
)
"""The true answer, in sentences that fit every plot; each plot has some of its own."""

_GUESSES = patterns(EXPECTATION.all, "claim", "said", "guess")
_CLAIMS = {plot.name: patterns((plot.claim + ".", plot.said + ".")) for plot in PLOTS}
_REVEALS = (*REVEAL.all, *(text for plot in PLOTS for text in plot.reveal.all))
_ANSWERS = patterns(_REVEALS, "answer", "Answer")
_NAMES = {plot.name: frozenset(name.lower() for name in plot.candidates) for plot in PLOTS}


def read_expected(sentence: str) -> set[tuple[str, str]]:
    """What a sentence says is expected, as (plot, candidate); nothing if it says none.

    A candidate that several plots have is given with each it may belong to.
    """
    for pattern in _GUESSES:
        slots = pattern.read(sentence)
        if slots is None:
            continue
        known = (
            _known(slots["guess"])
            if "guess" in slots
            else _claimed(slots.get("claim") or slots["said"])
        )
        if known:
            return known
    return set()


def _claimed(clause: str) -> set[tuple[str, str]]:
    return {
        (name, found["x"].lower())
        for name, claims in _CLAIMS.items()
        for pattern in claims
        if (found := pattern.read(clause + ".")) and found["x"].lower() in _NAMES[name]
    }


def read_revealed(sentence: str) -> set[tuple[str, str]]:
    """What a sentence says is true, as (plot, candidate); nothing if it says none."""
    for pattern in _ANSWERS:
        slots = pattern.read(sentence)
        known = _known(slots.get("answer") or slots["Answer"]) if slots else set()
        if known:
            return known
    return set()


def _known(name: str) -> set[tuple[str, str]]:
    return {(plot, name.lower()) for plot, names in _NAMES.items() if name.lower() in names}


def read_twist(sentences: list[str]) -> bool | None:
    """Whether the sentences of a story tell a twist.

    Returns:
        True if the answer is not what was expected before it, False if it is; None if nothing is
        expected, if no answer of the same plot follows, or if the story says different things about either.
    """
    expected: set[tuple[str, str]] = set()
    revealed: set[tuple[str, str]] = set()
    for sentence in sentences:
        guess = read_expected(sentence)
        if guess:
            expected = expected & guess if expected else guess
            if not expected:
                return None  # two expectations that contradict each other
            continue
        answer = read_revealed(sentence) if expected else set()
        if answer:
            revealed = revealed & answer if revealed else answer
            if not revealed:
                return None
    both = {plot for plot, _ in expected} & {plot for plot, _ in revealed}
    if not both:
        return None
    return {name for plot, name in expected if plot in both} != {
        name for plot, name in revealed if plot in both
    }


def claim(form: str, candidate: str, thing: str) -> str:
    """A claim of a plot ("the cat had taken the cake") about one candidate.

    Args:
        form: The plot's ``claim``, ``said`` or ``found``.
        candidate: What {x} stands for.
        thing: What {thing} stands for.
    """
    return form.replace("{x}", candidate).replace("{thing}", thing)
