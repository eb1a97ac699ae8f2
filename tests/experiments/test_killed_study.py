"""kill -9 at random moments, and completion: the same files as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mechft.experiments.store.entry import file_hash
from mechft.experiments.store.store import Store

ROOT = Path(__file__).parents[2]


def _start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.experiments.killed_study", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)


def _files(folder: Path) -> dict[str, str]:
    results = {p.name: file_hash(p) for p in folder.glob("main-*/*")}
    entries = {
        f"{entry.kind}/{entry.key}/{name}": file["sha256"]
        for entry in Store(folder / "store").entries()
        for name, file in entry.description["files"].items()
    }
    return results | entries


@pytest.mark.slow
def test_killed_five_times_and_completed(tmp_path: Path) -> None:
    began = time.monotonic()
    assert _start(tmp_path / "whole").wait() == 0
    took = time.monotonic() - began
    undisturbed = _files(tmp_path / "whole")
    assert len(undisturbed) > 40
    draw, kills, progress = random.Random(0), 0, []
    while kills < 5:
        process = _start(tmp_path / "killed")
        # From the first job on; most of the study must be left for the later ones.
        time.sleep(8 + draw.uniform(0, took / 5))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)  # its workers notice and end by themselves
        process.wait()
        kills += 1
        progress.append(len(list((tmp_path / "killed/store/entries").glob("*/*"))))
    assert kills == 5, f"finished too early; runs done after each kill: {progress}"
    assert progress[-1] > progress[0] or progress[0] > 0
    assert _start(tmp_path / "killed").wait() == 0
    assert _files(tmp_path / "killed") == undisturbed
    store = Store(tmp_path / "killed/store")
    assert not store.unfinished() and not (store.root / "quarantine").exists()
    print(f"runs done after each kill: {progress} of {len(store.entries())}")
