"""What recipes and shortcuts need of a task, and a task from its description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from mechft.errors import ConfigError, unknown_name
from mechft.tasks.batch import Source
from mechft.tasks.contrast import Contrast
from mechft.tasks.correlation import Correlation
from mechft.tasks.pcfg import PCFGTask
from mechft.tasks.programs import ProgramTask
from mechft.tasks.vocabulary import Vocabulary


@runtime_checkable
class Task(Protocol):
    """Questions with known answers: families, each with operands, asked of random strings.

    A task of one's own is most easily a subclass of ``OwnTask`` (``mechft.tasks.own``), which has all of this
    from three methods. Whoever needs another layout gives a class these members, and ``from_dict`` and
    ``pretraining`` (``StoredTask``, ``PretrainableTask``); ``check_task`` (``mechft.tasks.protocol``) says
    what is missing or contradictory. Recipes and shortcuts ask for no more.
    """

    @property
    def kind(self) -> str:
        """Names the class in files, and its training protocol: "pcfg", "program"."""
        ...

    @property
    def config(self) -> Any:
        """Everything that defines the task: a frozen dataclass; tasks of equal configs are the same."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the tokens a model reads: sizes the embedding, labels positions in figures."""
        ...

    @property
    def answer_vocabulary(self) -> Vocabulary:
        """Names of what a model predicts, whose ids ``TokenBatch.answer`` holds.

        Sizes the unembedding and names answers in figures. ``vocabulary`` itself where the answer is a token.
        """
        ...

    @property
    def n_ctx(self) -> int:
        """Positions a model must take: sizes its positional embedding."""
        ...

    @property
    def contrast(self) -> Contrast:
        """What a fine-tuning on this task sets against what unless told otherwise.

        What recipes and shortcuts ask for by default: the capability that is watched, and what is taught.
        """
        ...

    def can_correlate(self, family: str) -> bool:
        """Whether ``query`` takes a correlation for this family: decides what recipes measure."""
        ...

    def query(self, family: str, operand: str, correlation: Correlation | None = None) -> Source:
        """Samples that all ask one question: what every fine-tuning, evaluation and analysis draws.

        Each batch labels r(x, O) of both operands of the contrast, "FAMILY(OPERAND)": what probes read.
        With a correlation a string has it with that probability, and otherwise does not.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """The task as plain JSON values, its ``kind`` among them: what checkpoints keep.

        What tells one run from another, too; models whose tasks differ here, but for a value named
        "operand_prior", are not compared.
        """
        ...


@runtime_checkable
class PretrainableTask(Task, Protocol):
    """A task that models can be pretrained on, too."""

    def pretraining(self) -> Source:
        """What models are pretrained on: asked for by ``pretrain``, and by ``pretraining_share``."""
        ...


class StoredTask(Task, Protocol):
    """A task that comes back from a file."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Task:
        """The task that ``to_dict`` described: asked for by ``load``."""
        ...


_BUILT_IN: dict[str, type[StoredTask]] = {PCFGTask.kind: PCFGTask, ProgramTask.kind: ProgramTask}
KINDS = dict(_BUILT_IN)
"""The tasks that can be read back from a file, by kind."""

StoredT = TypeVar("StoredT", bound=type[StoredTask])


def register_task(made: StoredT) -> StoredT:
    """Make a class of tasks known by its ``kind``, so that ``load`` can read its models; a decorator.

    Subclasses of ``OwnTask`` are known without it. A class defined again, as in a notebook's cell that is run
    twice, takes the place of the one before.

    Args:
        made: The class; ``kind``, a class attribute, is its name in files.

    Returns:
        The class itself.

    Raises:
        ConfigError: If the class has no ``kind``, no ``from_dict``, or the kind of a task of this package.

    Example:
        >>> import mechft as mf
        >>> @mf.register_task
        ... class MyProgram(mf.ProgramTask):
        ...     kind = "my program"
        >>> @mf.register_task
        ... class Nameless:
        ...     pass
        Traceback (most recent call last):
        mechft.errors.ConfigError: A task's class names its kind, as Nameless should by a class attribute ...
    """
    kind = getattr(made, "kind", None)
    if not isinstance(kind, str) or not kind:
        raise ConfigError(
            f"A task's class names its kind, as {made.__name__} should by a class attribute such as "
            f"kind = {made.__name__!r}; got {kind!r}."
        )
    if not callable(getattr(made, "from_dict", None)):
        raise ConfigError(
            f"{made.__name__} needs a class method from_dict(values), which undoes to_dict(): load() asks "
            "for it."
        )
    if _BUILT_IN.get(kind, made) is not made:
        raise ConfigError(
            f"The kind {kind!r} is {_BUILT_IN[kind].__name__}'s; files could not tell {made.__name__} from "
            "it. Choose another."
        )
    KINDS[kind] = made
    return made


def task_from_dict(values: Mapping[str, Any]) -> Task:
    """The task that its ``to_dict`` described, of whichever kind.

    Raises:
        UnknownNameError: If its kind is not known.
    """
    kind = values.get("kind")
    if kind not in KINDS:
        raise unknown_name("kind of task", kind, KINDS)
    return KINDS[kind].from_dict(values)
