"""Sweeps: every job once, in the order of needs, through failures and the death of workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mechft.errors import ConfigError
from mechft.experiments.store.job import Job
from mechft.experiments.store.store import Store
from mechft.experiments.sweep.pools import (
    DaskPool,
    GivenPool,
    LocalPool,
    Pool,
    ThisProcess,
    make_pool,
    share_of_threads,
)
from mechft.experiments.sweep.sweep import SweepError, _weights, run_sweep
from tests.conftest import heed_ctrl_c
from tests.experiments.toy_work import COUNT_UP, DIE, FAIL, MANY, VANISH, add_job

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pools() -> Iterator[Callable[[str], Pool]]:
    """Pools by name, each made once: starting workers takes longer than what they do here."""
    made: dict[str, Pool] = {}
    makers: dict[str, Callable[[], Pool]] = {
        "this": lambda: GivenPool(ThisProcess()),
        "threads": lambda: GivenPool(threads, 3),
        "local": lambda: LocalPool(2),
        "dask": lambda: DaskPool(jobs=2),
    }

    def pool(name: str) -> Pool:
        if name not in made:
            made[name] = makers[name]()
        return made[name]

    with ThreadPoolExecutor(3) as threads:
        yield pool
        for one in made.values():
            one.close()


@pytest.mark.parametrize("name", ["this", "threads", "local", "dask"])
def test_every_job_once_and_needs_first(
    tmp_path: Path, name: str, pools: Callable[[str], Pool]
) -> None:
    log = tmp_path / "log"
    base = add_job(1, log=str(log))
    middle = [add_job(n, base, log=str(log)) for n in (10, 20, 30)]
    last = add_job(100, *middle, log=str(log))
    store = Store(tmp_path / "store")
    done = run_sweep([last], store, pools(name))
    order = log.read_text().split()
    assert len(done) == 5 and sorted(order) == sorted(["1", "10", "20", "30", "100"])
    assert order[0] == "1" and order[-1] == "100"
    assert json.loads(done[last].file("sum.json").read_text()) == 100 + 60 + 3
    run_sweep([last, base], store)  # nothing left
    assert len(log.read_text().split()) == 5


def test_a_failure_stops_only_what_needs_it(tmp_path: Path) -> None:
    bad = Job(FAIL, {"how": "error"})
    lost, kept = add_job(1, bad), add_job(2)
    store = Store(tmp_path / "store")
    with pytest.raises(
        SweepError, match=r"(?s)1 of the jobs failed, and 1 that need.*of no use"
    ) as e:
        run_sweep([lost, kept], store)
    assert set(e.value.failures) == {bad} and store.find(kept) is not None


def test_a_finding_leaves_out_what_needs_it(tmp_path: Path) -> None:
    bad = Job(FAIL, {"how": "finding"})
    lost, kept = add_job(2, add_job(1, bad)), add_job(3)
    done = run_sweep([lost, kept], Store(tmp_path / "store"))
    assert set(done) == {bad, kept} and done[bad].failed == "of no use"


@pytest.mark.parametrize("name", ["local", "dask"])
def test_a_killed_worker_has_its_job_done_again_from_its_checkpoint(
    tmp_path: Path, name: str, pools: Callable[[str], Pool]
) -> None:
    log = tmp_path / "steps"
    job = Job(COUNT_UP, {"number": 10, "log": str(log)})
    others = [add_job(n, seconds=0.05) for n in range(4)]
    done = run_sweep([job, *others], Store(tmp_path / "store"), pools(name))
    assert json.loads(done[job].file("sum.json").read_text()) == 10
    assert log.with_suffix(".died").exists()
    assert log.read_text().split() == [str(n) for n in range(1, 11)], "no step was done twice"
    assert len(done) == 5


def test_a_job_that_kills_its_worker_is_given_up_and_who_runs_beside_it_is_not_blamed(
    tmp_path: Path, pools: Callable[[str], Pool]
) -> None:
    slow = [add_job(n, seconds=1.0) for n in range(3)]
    store = Store(tmp_path / "store")
    with pytest.raises(SweepError, match="Its worker died 3 times") as error:
        run_sweep([Job(DIE, {}), *slow], store, pools("local"))
    assert set(error.value.failures) == {Job(DIE, {})}
    assert all(store.find(job) is not None for job in slow)


def test_a_failure_after_waiting_for_another_process_ends_the_sweep(tmp_path: Path) -> None:
    store, bad = Store(tmp_path / "store"), Job(FAIL, {"how": "error"})
    held = threading.Event()

    def work() -> None:
        with store._lock(bad.key):
            held.set()
            time.sleep(0.3)

    other = threading.Thread(target=work)
    other.start()
    held.wait()
    with pytest.raises(SweepError, match="and 1 that need them"):
        run_sweep([add_job(4, bad)], Store(store.root))
    other.join()


def test_a_need_that_vanished_is_done_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    base, middle = add_job(1), add_job(2)
    first = store.do(base)
    assert first is not None
    last = Job(VANISH, {"folder": str(first.folder)}, {"base": base})
    done = run_sweep([add_job(3, base, last), middle], store)
    assert len(done) == 4 and store.find(base) is not None


def test_one_bad_member_does_not_spoil_the_others(tmp_path: Path) -> None:
    jobs = [Job(MANY, {"number": n}) for n in range(4)]
    bad = Job(MANY, {"number": -1})
    store = Store(tmp_path / "store")
    with pytest.raises(SweepError, match="1 of the jobs failed") as error:
        run_sweep([*jobs, bad], store, GivenPool(ThisProcess(), together=8))
    assert set(error.value.failures) == {bad}
    entries = [store.find(job) for job in jobs]
    assert all(
        entry is not None and "together with" not in entry.description["made"] for entry in entries
    )
    others = [Job(MANY, {"number": n}) for n in range(10, 14)]
    done = run_sweep(others, store, GivenPool(ThisProcess(), together=3))
    assert [done[job].description["made"].get("together with") for job in others] == [2, 2, 2, None]


@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_saves_what_runs_beside_an_idle_worker(tmp_path: Path, whole_group: bool) -> None:
    """The terminal tells all processes, kill the parent alone; the running job saves in either case."""
    code = (
        "from pathlib import Path; from tests.experiments.toy_work import *;"
        "from mechft.experiments.store.store import Store;"
        "from mechft.experiments.sweep.pools import LocalPool;"
        "from mechft.experiments.sweep.sweep import run_sweep\n"
        f"if __name__ == '__main__': run_sweep([Job(PATIENT, {{'log': '{tmp_path}/log'}}), add_job(1)], "
        f"Store('{tmp_path}/store'), LocalPool(2))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        preexec_fn=heed_ctrl_c,
    )
    while not (tmp_path / "log").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.5)  # the other worker has nothing left to do
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (tmp_path / "log").read_text() == "begun\nsaved\n"
    assert b"KeyboardInterrupt" in errors
    assert b"Process SpawnProcess" not in errors, "an idle worker died of it"


def test_what_another_process_does_is_waited_for(tmp_path: Path) -> None:
    store, job = Store(tmp_path / "store"), add_job(3)
    held = threading.Event()

    def work() -> None:
        with store._lock(job.key):
            held.set()
            time.sleep(0.5)

    other = threading.Thread(target=work)
    other.start()
    held.wait()
    done = run_sweep([job, add_job(4, job)], Store(store.root))
    other.join()
    assert len(done) == 2


def test_the_longest_chain_begins() -> None:
    base, alone = add_job(1), add_job(2)
    middle = add_job(3, base)
    last = add_job(4, middle)
    assert _weights([alone, base, middle, last]) == {base: 3, alone: 1, middle: 2, last: 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": -1}, "jobs is at least 0"),
        ({"threads": -1}, "threads is at least 0"),
        ({"scheduler": "tcp://nowhere:1"}, "--executor dask"),
    ],
)
def test_bad_pools(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_pool(**arguments)
    assert share_of_threads(10**6) == 1
