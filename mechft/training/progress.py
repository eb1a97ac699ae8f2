"""The progress bar of a run: loss, accuracy, time left. Silent where nobody watches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mechft.statistics import Proportion
from mechft.training.callbacks import Callback
from mechft.training.config import TrainConfig

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class Progress(Callback):
    """A progress bar over steps; shows nothing when output is not a terminal or a notebook."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._accuracy = ""

    def began(self, label: str, config: TrainConfig, step: int) -> None:
        """Show the bar."""
        from tqdm.auto import tqdm

        self._bar = tqdm(total=config.steps, initial=step, desc=label, unit="step", disable=None)

    def stepped(self, step: int, loss: float) -> None:
        """One step more."""
        self._bar.set_postfix_str(f"loss={loss:.3f} {self._accuracy}", refresh=False)
        self._bar.update()

    def evaluated(
        self, step: int, model: HookedTransformer, results: Mapping[str, Proportion]
    ) -> None:
        """Show the newest accuracies beside the loss."""
        self._accuracy = " ".join(f"{name}={r.value:.0%}" for name, r in results.items())

    def ended(self, step: int) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
