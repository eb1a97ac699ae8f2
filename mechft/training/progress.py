"""The progress bar of a run: loss, accuracy, time left. Silent where nobody watches."""

from __future__ import annotations

from collections.abc import Mapping

from mechft.statistics import Proportion


class Progress:
    """A progress bar over steps; shows nothing when output is not a terminal or a notebook.

    Args:
        label: What is being trained.
        steps: Steps of the whole run.
        done: Steps already taken, when resuming.
    """

    def __init__(self, label: str, steps: int, done: int = 0) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(total=steps, initial=done, desc=label, unit="step", disable=None)
        self._accuracy = ""

    def evaluated(self, results: Mapping[str, Proportion]) -> None:
        """Show the newest accuracies beside the loss."""
        self._accuracy = " ".join(f"{name}={r.value:.0%}" for name, r in results.items())

    def step(self, loss: float) -> None:
        """One step more."""
        self._bar.set_postfix_str(f"loss={loss:.3f} {self._accuracy}", refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
