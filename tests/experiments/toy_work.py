"""Work for the tests of store and sweeps: quick, countable, and able to die."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mechft.experiments.store.job import Job, Kind, WorkFailedError


def add(settings: Mapping[str, Any], needs: Mapping[str, Path], folder: Path) -> None:
    """The settings' number and those of all needs; says in a common file that it ran."""
    total = settings["number"] + sum(
        json.loads((need / "sum.json").read_text()) for need in needs.values()
    )
    if log := settings.get("log"):
        with Path(log).open("a") as file:  # appending a short line is atomic
            file.write(f"{settings['number']}\n")
    time.sleep(settings.get("seconds", 0))
    (folder / "sum.json").write_text(json.dumps(total))
    (folder / "table.csv").write_text(f"number,share\n{total},{0.1 + 0.2!r}\n")


def count_up(settings: Mapping[str, Any], needs: Mapping[str, Path], folder: Path) -> None:
    """Counts to a number with a checkpoint at each step, and dies of SIGKILL once, halfway."""
    checkpoint, log = folder / "checkpoint.safetensors", Path(settings["log"])
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    while step < settings["number"]:
        step += 1
        with log.open("a") as file:
            file.write(f"{step}\n")
        temporary = folder / ".checkpoint.tmp"
        temporary.write_text(str(step))
        temporary.replace(checkpoint)
        died = log.with_suffix(".died")
        if step == settings["number"] // 2 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    (folder / "sum.json").write_text(json.dumps(step))


def fail(settings: Mapping[str, Any], needs: Mapping[str, Path], folder: Path) -> None:
    """Raises what it is told to."""
    raise {"error": ValueError, "finding": WorkFailedError}[settings["how"]]("of no use")


def die(settings: Mapping[str, Any], needs: Mapping[str, Path], folder: Path) -> None:
    """Kills its process, every time."""
    os.kill(os.getpid(), signal.SIGKILL)


def vanish(settings: Mapping[str, Any], needs: Mapping[str, Path], folder: Path) -> None:
    """Removes what it needs, once."""
    once = Path(settings["folder"]).parents[3] / "vanished"
    (folder / "sum.json").write_text("0")
    if not once.exists():
        once.touch()
        shutil.rmtree(settings["folder"])


def patient(settings: Mapping[str, Any], needs: Mapping[str, Path], folder: Path) -> None:
    """Takes long, and saves when it is interrupted."""
    log = Path(settings["log"])
    log.write_text("begun\n")
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)
        log.write_text(log.read_text() + "saved\n")
        raise


def many(settings: Mapping[str, Any], needs: Mapping[str, Path], folder: Path) -> None:
    """Leaves its number; -1 is too small for it."""
    if settings["number"] < 0:
        raise ValueError("only this one")
    (folder / "sum.json").write_text(str(settings["number"]))


def many_together(
    parts: Sequence[tuple[Mapping[str, Any], Mapping[str, Path], Path]],
) -> list[str | None]:
    """The same for several."""
    for settings, needs, folder in parts:
        many(settings, needs, folder)
    return [None] * len(parts)


def _kind(name: str) -> Kind:
    return Kind(name, 1, f"{__name__}:{name}")


ADD, COUNT_UP, FAIL, DIE = map(_kind, ("add", "count_up", "fail", "die"))
VANISH, PATIENT = map(_kind, ("vanish", "patient"))
MANY = replace(_kind("many"), together=f"{__name__}:many_together")


def add_job(number: int, *needs: Job, **settings: Any) -> Job:
    """A job that adds a number to what its needs made."""
    return Job(ADD, {"number": number, **settings}, {str(i): need for i, need in enumerate(needs)})
