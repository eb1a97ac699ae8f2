"""Settings of everything that is done as a sweep of runs over a store; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from mechft.errors import require


@dataclass(frozen=True)
class SweepConfig:
    """Where and how the runs of a reproduction are done, and how many.

    Attributes:
        out: Folder of the study. Runs are kept in its store, and shared by all reproductions that are
            given the same folder; each writes report.html and its tables to a folder of its own there.
        seeds: Seeds 0, 1, …: each pretrains its own base models.
        quick: One seed and a few short trainings: shows in minutes that everything runs, not what is true; no
            claim is judged.
        jobs: Runs at a time; 0 means one a core.
        threads: Threads of each run; 0 means its share of the cores.
        executor: Where runs are done: processes here, or dask.distributed (extra "cluster").
        scheduler: Address of a running dask scheduler; without it dask's workers are started here.
        precision: Of training steps: tf32 and bf16 are for GPUs, which they make faster.
    """

    out: Path = Path("study")
    seeds: int = 3
    quick: bool = False
    jobs: int = 0
    threads: int = 0
    executor: Literal["local", "dask"] = "local"
    scheduler: str | None = None
    precision: Literal["float32", "tf32", "bf16"] = "float32"

    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f"A study needs at least one seed; got seeds={self.seeds}.")
        require(self.jobs >= 0, f"jobs is at least 0 (0: one a core); got {self.jobs}.")
        require(self.threads >= 0, f"threads is at least 0 (0: its share); got {self.threads}.")

    @property
    def store(self) -> Path:
        """Where runs are kept."""
        return self.out / "store"

    @property
    def results(self) -> Path:
        """Where report and tables go."""
        return self.out / f"{self.name}-{self.size_words}"

    @property
    def told(self) -> dict[str, Any]:
        """What results say of the settings: what was run, and not how or where; JSON values."""
        return {"seeds": self.seeds, "quick": self.quick}

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds that are run."""
        return (0,) if self.quick else tuple(range(self.seeds))

    @property
    def size_words(self) -> str:
        """How much is run, for the name of a folder: "quick", "3-seeds"."""
        return "quick" if self.quick else f"{self.seeds}-seed" + "s" * (self.seeds != 1)
