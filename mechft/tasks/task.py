"""What recipes and shortcuts need of a task, and a task from its description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from mechft.errors import unknown_name
from mechft.tasks.batch import Source
from mechft.tasks.contrast import Contrast
from mechft.tasks.correlation import Correlation
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.programs import ProgramTask
from mechft.tasks.vocabulary import Vocabulary


@runtime_checkable
class Task(Protocol):
    """Questions with known answers: families, each with operands, asked of random strings.

    Whoever writes a task of their own gives it these members; recipes ask for no more.
    """

    @property
    def kind(self) -> str:
        """Names the class in files: "pcfg", "program"."""
        ...

    @property
    def config(self) -> Any:
        """Everything that defines the task: a frozen dataclass; tasks of equal configs are the same."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the tokens a model reads."""
        ...

    @property
    def answer_vocabulary(self) -> Vocabulary:
        """Names of what a model predicts; ``TokenBatch.answer`` holds its ids."""
        ...

    @property
    def answer_position(self) -> int:
        """Position at which the answer is predicted."""
        ...

    @property
    def n_ctx(self) -> int:
        """Positions a model must take."""
        ...

    @property
    def contrast(self) -> Contrast:
        """What a fine-tuning on this task sets against what unless told otherwise."""
        ...

    def can_correlate(self, family: str) -> bool:
        """Whether ``query`` takes a correlation for this family."""
        ...

    def operands(self, family: str) -> tuple[str, ...]:
        """Every operand the family can be asked about."""
        ...

    def query(self, family: str, operand: str, correlation: Correlation | None = None) -> Source:
        """Samples that all ask one question."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The task as plain JSON values, its ``kind`` among them."""
        ...


KINDS: dict[str, type[PCFGTask] | type[ProgramTask]] = {
    made.kind: made for made in (PCFGTask, ProgramTask)
}
"""The tasks that can be read back from a file, by kind."""


def task_from_dict(values: Mapping[str, Any]) -> PCFGTask | ProgramTask:
    """The task that its ``to_dict`` described, of whichever kind.

    Raises:
        UnknownNameError: If its kind is not known.
    """
    kind = values.get("kind")
    if kind not in KINDS:
        raise unknown_name("kind of task", kind, KINDS)
    return KINDS[kind].from_dict(values)
