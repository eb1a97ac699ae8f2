"""The progress bar of a run: loss, accuracy, time left. Silent where nobody watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mechft.statistics import Proportion
from mechft.training.callbacks import Callback
from mechft.training.config import TrainConfig

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def progress_bar(shown: bool = True, **settings: Any) -> Any:
    """Tqdm's bar where somebody watches: in a terminal and in notebooks, not in files and pipes.

    Args:
        shown: False for none in any case, and so does the environment variable TQDM_DISABLE=1.
        settings: Of ``tqdm.tqdm``.
    """
    from tqdm.auto import tqdm

    hidden = not shown or os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    # tqdm takes a notebook's output for a pipe, as it is no terminal, if it is left to choose (None).
    return tqdm(disable=True if hidden else False if _in_notebook() else None, **settings)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class Progress(Callback):
    """A progress bar over steps."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._accuracy = ""

    def began(self, label: str, config: TrainConfig, step: int) -> None:
        """Show the bar."""
        self._bar = progress_bar(total=config.steps, initial=step, desc=label, unit="step")

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
