"""A task of your own: sums of numbers, from pretraining to the verdict.

Three numbers below 13, such as 3 1 4. A model is pretrained to add the first two (3 + 1 = 4), almost never
asked for the last two; then it is taught to add the last two (1 + 4 = 5), on strings where that gives one
more. So it could learn to add them, or to say one more than it used to. Which did it learn, and is what it
could do before gone? Takes about a minute on one core and writes own_task.html.
Usage: python examples/own_task.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # first, as the imports below take seconds
    from mechft.usage import script_parser

    script_parser(__doc__).parse_args()

import torch
from torch import Tensor

import mechft as mf


@dataclass(frozen=True)
class Sums(mf.OwnTask):
    """The sum of the first two of three numbers, or of the last two, modulo a number."""

    operand_names = ("first", "last")  # a sample reads "first 3 1 4 = 4"
    modulus: int = 13

    def tokens(self) -> Sequence[str]:
        """What strings and answers are made of."""
        return [str(number) for number in range(self.modulus)]

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Random strings, as places in ``tokens``."""
        return torch.randint(self.modulus, (size, 3), generator=generator)

    def answers(self, strings: Tensor, operand: str) -> Tensor:
        """What is right for an operand, as numbers."""
        pair = strings[:, :2] if operand == "first" else strings[:, 1:]
        return pair.sum(1) % self.modulus


def main(steps: int = 700, rows: int = 1000, folder: Path = Path()) -> None:
    """Pretrain, fine-tune on data with a shortcut, ask, train back, judge."""
    task, never = Sums(operand_prior=(0.999, 0.001)), Sums(operand_prior=(0.0, 1.0))
    shape = mf.ModelConfig(2, 4, 64, d_vocab=len(task.vocabulary), n_ctx=task.n_ctx)
    base = mf.pretrain(task=task, model=shape, steps=steps, loss="answer", name="base")
    control = mf.pretrain(task=never, model=shape, steps=steps, loss="answer", name="control")
    print("base:", base.lineage[-1]["final"])

    ft = mf.finetune(base, train_correlation=1.0, learning_rate=3e-4, steps=steps // 2, name="ft")
    print("fine-tuned:", ft.lineage[-1]["final"], "(cte1: where the shortcut holds)")
    plain = task.query("Sums", "first", ft.contrast.correlation(0.0)).sample(rows, mf.generator(0))
    one_more = (mf.predictions(ft, plain) == plain.answer + 1).float().mean()
    print(f"Asked for the first two it now says one more in {one_more:.1%} (12 has no one more).")

    back = mf.reverse_finetune(ft, learning_rate=1e-4, steps=steps, stop_at=0.97)
    fresh = mf.scratch_finetune(control, learning_rate=1e-4, steps=steps, stop_at=0.97)
    revival = mf.revival({"reFT": back, "Scr.+FT": fresh})
    verdict = mf.diagnose(base, ft, control, revivals=revival, fit_size=rows, test_size=rows)
    print(verdict)
    mf.plot(verdict).write_html(folder / "own_task.html", include_plotlyjs=True)


if __name__ == "__main__":
    main()
