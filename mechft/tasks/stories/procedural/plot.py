"""What a plot is: a question with two possible answers, one of which is expected and one true."""

from __future__ import annotations

from dataclasses import dataclass

from mechft.tasks.stories.procedural.templates import Telling


@dataclass(frozen=True)
class Plot:
    """A small mystery. Its texts are templates (see ``templates``); claims have the slots {x} and {thing}.

    Attributes:
        name: For people.
        candidates: What the answer can be; two of them are named in a story.
        things: What {thing} can be: what it is about, or a detail of it.
        event: How the mystery begins.
        question: That somebody wants to know.
        ask: What they want to know, as a clause.
        claim: The clause that says the answer is {x}, after "was sure that".
        said: The same in the present tense, after "I am sure that".
        found: The same, after "In the end they see that".
        search: What happens before the answer is seen; the same whatever it is.
        reveal: The answer, in sentences of this plot; {answer} is it, {rest} the other candidate.
        good: How it ends well, whatever the answer.
        bad: How it ends badly, whatever the answer.
        lessons: What can be learned from it, after "learned that".
        it: What "was {answer}" can be said of.
    """

    name: str
    candidates: tuple[str, ...]
    things: tuple[str, ...]
    event: tuple[str, ...]
    question: Telling
    ask: str
    claim: str
    said: str
    found: str
    search: tuple[str, ...]
    reveal: Telling
    good: tuple[str, ...]
    bad: tuple[str, ...]
    lessons: tuple[str, ...]
    it: str = "It"
