"""What a fine-tuning sets against what: the operand a model knew, and the one it is taught."""

from __future__ import annotations

from dataclasses import dataclass

from mechft.tasks.correlation import Correlation


@dataclass(frozen=True)
class Contrast:
    """The two questions whose answers a study watches.

    Attributes:
        family: Task family of both.
        pretraining_operand: O_PT, the capability whose fate is in question.
        finetuning_operand: O_FT, what fine-tuning teaches.
        offset: q of the correlation r(x, O_FT) − r(x, O_PT) = q.

    Example:
        >>> import mechft as mf
        >>> contrast = mf.load("tracr-max").task.contrast
        >>> contrast
        Contrast(family='max', pretraining_operand='5', finetuning_operand='6', offset=1)
        >>> contrast.correlation(0.5).probability
        0.5
    """

    family: str = "C"
    pretraining_operand: str = "a"
    finetuning_operand: str = "b"
    offset: int = 1

    def correlation(self, probability: float, *, distinct: bool = False) -> Correlation:
        """The correlation between the two operands, holding with this probability.

        ``distinct`` strings without it have two different answers, as measuring wants; see ``Correlation``.
        """
        return Correlation(
            probability, self.offset, self.pretraining_operand, self.finetuning_operand, distinct
        )
