"""Settings of a comparison of two models; free of torch, so that the command line can start fast."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from mechft.errors import require, unknown_name

STAGES: dict[str, str] = {
    "weights": "Which weights moved, and by how much?",
    "outputs": "How often do the two models answer alike?",
    "loss": "What does the text cost each model, in nats a token?",
    "lens": "After which block do the two models begin to say different things?",
    "attention": "Which heads look elsewhere?",
    "activations": "Where in the model did activations move?",
    "circuits": "What became of what each head looks for and what it moves?",
    "spectrum": "How many directions did the change take?",
    "interpolation": "How much of the change must be undone before the base's answers are back?",
    "patching": "Where does the base's activation bring its answers back?",
    "ablation": "Which heads and MLPs came to matter, or ceased to?",
    "low_rank": "How few directions of the change carry what it did?",
    "pruning": "Do a few neurons hide the base's answers?",
    "revival": "How few steps of training bring the base's answers back?",
    "untaught": "Do the base's answers come back from training that does not teach them?",
    "verdict": "Are the base's answers retained, wrapped or damaged?",
}
"""The stages of a comparison in the order in which they run, and the question each answers."""


@dataclass(frozen=True)
class CompareSettings:
    """How much a comparison looks at.

    Attributes:
        limit: Rows of the data at most: prompts, or windows of text.
        window: Tokens of a window of text at most.
        quick: Only the first answer: how far each weight moved, and the answers on a few rows.
        stages: Stages to run, all that apply if empty: weights, outputs, loss, lens, attention, activations,
            circuits, spectrum, interpolation, patching, ablation, low_rank, pruning, revival, untaught,
            verdict.
        work: Arithmetic operations that a stage may take, about. It sets how many rows a stage sees and
            whether heads are ablated one by one; stages that need far more are left out, and say so. 5e12
            took one core one to three minutes. With small models every stage sees all rows.
        seed: Seed of the random change that stands beside the model, and of intervals.

    Raises:
        ConfigError: If a number is below the least that means something.
        UnknownNameError: If a stage is not known.
    """

    limit: int = 1000
    window: int = 128
    quick: bool = False
    stages: tuple[str, ...] = ()
    work: float = 5e12
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.limit >= 1, f"limit is how many rows are read, at least 1; got {self.limit}.")
        require(self.window >= 2, f"A window holds at least 2 tokens; got {self.window}.")
        require(self.work > 0, f"work is a number of operations above 0; got {self.work:g}.")
        require(self.seed >= 0, f"A seed is at least 0; got {self.seed}.")
        for name in self.stages:
            if name not in STAGES:
                raise unknown_name("stage", name, STAGES)
        require(
            not (self.quick and self.stages),
            f"quick runs the first answer alone, so it takes no stages; got {', '.join(self.stages)}.",
        )


@dataclass(frozen=True)
class DiffConfig:
    """Compare a base model and a fine-tuned one on your own data: what moved, where, and how far.

    Example: mechft diff models/base models/finetuned --data prompts.jsonl --out comparison

    Attributes:
        base: The base: a Hugging Face folder, a mechft checkpoint, or the name of a bundled model.
        finetuned: The fine-tuned model of the same architecture, or a folder with a LoRA adapter.
        data: A .jsonl file with prompt and answer (or text) in each line, or a .txt file, a text a paragraph.
        out: Folder for report.html, results.json and a CSV file a table. An earlier comparison there is
            replaced; any other content is refused.
        control: A model of the same architecture that never had what the base can and the fine-tuned model
            lost: what training back is held against.
        device: Where to run: cpu, cuda, cuda:1. By default the CPU.
        json: Print settings, findings and the report's place as JSON, and nothing else.
        settings: How much is looked at.
    """

    base: Annotated[Positional[str], arg(metavar="BASE")]
    finetuned: Annotated[Positional[str], arg(metavar="FINETUNED")]
    data: Path
    out: Path = Path("comparison")
    control: str | None = None
    device: str | None = None
    json: bool = False
    settings: Annotated[CompareSettings, arg(name="")] = field(default_factory=CompareSettings)
