"""Any two models compared on a user's own data: the one call, and the report that can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.experiments.compare.config import CompareSettings
from mechft.experiments.compare.files import REPORT_FILE, check_folder
from mechft.experiments.compare.result import Comparison, ComparisonInterrupted
from mechft.report.comparison_page import write_comparison_report as write_comparison_report

if TYPE_CHECKING:
    import torch


class ReportedComparison(Comparison):
    """A comparison that can write its report; see ``Comparison`` for what it holds."""

    def report(self, folder: str | Path) -> Path:
        """Write report.html, results.json and a CSV file a table to a folder.

        Args:
            folder: Made if missing. An earlier comparison there is replaced.

        Returns:
            The path of report.html, which opens offline.

        Raises:
            OutputExistsError: If the folder holds anything that no comparison wrote; it is left as it is.
        """
        return write_comparison_report(self, self.save(folder))


def compare(
    base: Any,
    finetuned: Any,
    data: Any,
    *,
    control: Any = None,
    out: str | Path | None = None,
    quick: bool = CompareSettings.quick,
    limit: int = CompareSettings.limit,
    window: int = CompareSettings.window,
    stages: Sequence[str] = CompareSettings.stages,
    work: float = CompareSettings.work,
    seed: int = CompareSettings.seed,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> ReportedComparison:
    """What did fine-tuning do to this model? Every analysis that applies to a pair of models and your data.

    The first answer (how far each weight moved, how often the models answer alike) is shown within seconds;
    the rest follows with a progress bar. A stage that does not apply, costs too much or fails is told of in
    ``skipped`` and stops no other. Ctrl-C keeps the stages that finished. Beside the fine-tuned model stands
    the base with a random change of its weights as large: what a change of that size does on its own.

    Args:
        base: A bundled model's name, a mechft checkpoint, a Hugging Face folder, a HookedTransformer, a
            TransformerBridge, a loaded Hugging Face model, or the pair of it and its tokenizer.
        finetuned: The same, of the same architecture; or a LoRA adapter (folder or ``PeftModel``).
        data: A .jsonl file of prompts with answers or of texts, a .txt file (a text a paragraph), a list of
            texts or of (prompt, answer) pairs, a DataFrame, a TokenBatch, or token ids Int["row pos"]; see
            ``mechft.tasks.prompts.read_prompts``.
        control: A model that never had what the base can and the fine-tuned model lost, given as these are:
            what training back is held against. Without one it is reported, and has no vote.
        out: A folder for report.html, results.json and the tables; nothing is written without one.
        quick: Only the first answer.
        limit: Rows of the data at most: prompts, or windows of text.
        window: Tokens of a window of text at most.
        stages: Only these stages, of ``mechft.experiments.compare.config.STAGES``.
        work: Arithmetic operations that a stage may take, about; sets how many rows a stage sees.
        seed: Seed of the random change and of intervals. The same seed gives the same numbers.
        device: Where to run; by default files are opened on the CPU, and objects stay where they are.
        progress: Show the first answer and a progress bar.

    Returns:
        Findings in words, results by stage (``mf.plot`` draws them), tables; ``report(folder)`` writes all.

    Raises:
        ConfigError: If the models are not of one architecture or read text differently (before either runs),
            the data cannot be read, or a setting is out of range.
        CheckpointError: If a model's files are missing or broken.
        OutputExistsError: If ``out`` holds anything but an earlier comparison (before anything is opened).
        ComparisonInterrupted: On Ctrl-C once a stage has finished: a KeyboardInterrupt whose ``found`` has
            the finished stages, the report of which is in ``out``.

    Cost: for a pair of 124M parameters and 256 prompts of 16 tokens, 5 to 8 s of one core to the first answer
    once the models are open, and half an hour of one core for all stages (``work`` sets that). Memory: 6 GB
    there; the two models, the random change as a third, copies of the weights where they are mixed, and in
    low_rank the block matrices four times in float64.

    Example:
        >>> import mechft as mf
        >>> task = mf.load("pcfg-tiny-low").task
        >>> rows = task.query("C", "a").sample(20, mf.generator(0))
        >>> found = mf.compare("pcfg-tiny-low", "pcfg-tiny-never-a", rows, quick=True, progress=False)
        >>> list(found.results)
        ['weights', 'outputs']
    """
    from mechft.experiments.compare.run import run_comparison

    chosen = (stages,) if isinstance(stages, str) else tuple(stages)
    settings = CompareSettings(limit, window, quick, chosen, work, seed)
    if out is not None:
        check_folder(Path(out))
    found = run_comparison(
        base, finetuned, data, settings, control=control, device=device, progress=progress
    )
    reported = with_report(found)
    if found.interrupted and not found.results:
        raise KeyboardInterrupt("interrupted before a stage of the comparison had finished.")
    if out is not None:
        reported.report(out)
    if found.interrupted:
        where = "" if out is None else f"; their report: {(Path(out) / REPORT_FILE).resolve()}"
        wanted = len(settings.stages or found.stages)
        done = f"{len(found.results)} of {wanted} stages had finished{where}"
        raise ComparisonInterrupted(f"interrupted when {done}.", reported)
    return reported


def with_report(comparison: Comparison) -> ReportedComparison:
    """The same comparison, able to write its report."""
    return ReportedComparison(**{f.name: getattr(comparison, f.name) for f in fields(comparison)})
