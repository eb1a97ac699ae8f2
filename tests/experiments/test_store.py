"""The store: one result a content, whole or not there, whoever works beside."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mechft.errors import ConfigError, OutputExistsError, UnknownNameError
from mechft.experiments.store.job import Job, NeedMissingError, check_kinds, in_order
from mechft.experiments.store.store import Store
from tests.experiments import micro
from tests.experiments.toy_work import ADD, FAIL, add_job


def test_key_is_the_content() -> None:
    one = Job(ADD, {"number": 1, "list": (1, 2)})
    assert one == Job(ADD, {"list": [1, 2], "number": 1}) and len({one, one}) == 1
    others = [
        Job(ADD, {"number": 2, "list": [1, 2]}),
        Job(ADD, {"number": 1, "list": [2, 1]}),
        Job(replace(ADD, version=2), {"number": 1, "list": [1, 2]}),
        Job(replace(ADD, name="other"), {"number": 1, "list": [1, 2]}),
        Job(ADD, {"number": 1, "list": [1, 2]}, {"base": one}),
    ]
    assert len({one.key, *(job.key for job in others)}) == 6
    changed = Job(ADD, {"number": 3}, {"base": others[0]})
    assert changed.key != Job(ADD, {"number": 3}, {"base": others[1]}).key


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_settings_are_json(value: object) -> None:
    with pytest.raises(ConfigError, match="finite numbers"):
        Job(ADD, {"number": value})


def test_order_and_kinds() -> None:
    base = add_job(1)
    middle = [add_job(2, base), add_job(3, base)]
    last = add_job(4, *middle)
    assert in_order([last, base]) == [base, *middle, last]
    with pytest.raises(ConfigError, match="Two kinds of work"):
        check_kinds([ADD, replace(ADD, work="else.where:add")])


def test_done_once_and_read_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    base = add_job(1, log=str(log))
    job = add_job(2, base, log=str(log))
    store = Store(tmp_path / "store")
    with pytest.raises(NeedMissingError, match="which is not done"):
        store.do(job)
    for _ in range(2):
        assert store.do(base) is not None
        entry = store.do(job)
    assert entry is not None and log.read_text() == "1\n2\n"
    assert json.loads(entry.file("sum.json").read_text()) == 3
    assert entry.frame("table")["share"].tolist() == [0.1 + 0.2]  # to the last bit
    assert entry.description["needs"] == {"0": base.key} and entry.failed is None
    with pytest.raises(UnknownNameError, match=r"sum\.json"):
        entry.file("model.safetensors")
    assert [e.key for e in Store(store.root).entries()] == [base.key, job.key]
    assert store.entry(job.key[:6]).key == job.key
    with pytest.raises(UnknownNameError):
        store.entry("")
    store.remove(entry)
    assert store.find(job) is None and store.find(base) is not None


def test_a_finding_is_kept_and_an_error_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entry = store.do(Job(FAIL, {"how": "finding"}))
    assert entry is not None and entry.failed == "of no use"
    with pytest.raises(ValueError, match="of no use"):
        store.do(Job(FAIL, {"how": "error"}))
    assert len(store.entries()) == 1 and len(store.unfinished()) == 1
    assert store.remove_unfinished(store.unfinished()[0]) and not store.unfinished()
    with pytest.raises(NeedMissingError, match="which is not done"):
        store.do(add_job(1, Job(FAIL, {"how": "finding"})))


def _cut(folder: Path) -> None:
    path = folder / "sum.json"
    path.write_bytes(path.read_bytes()[:-1])


def _rewrite(folder: Path, **changed: object) -> None:
    found = json.loads((folder / "entry.json").read_text())
    (folder / "entry.json").write_text(json.dumps({**found, **changed}))


def _change(folder: Path) -> None:
    (folder / "sum.json").write_text("7")


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _change,
        lambda folder: (folder / "sum.json").unlink(),
        lambda folder: (folder / "entry.json").unlink(),
        lambda folder: (folder / "entry.json").write_text('{"key": 1'),
        lambda folder: (folder / "entry.json").write_text("{}"),
        lambda folder: _rewrite(folder, files=None),
        lambda folder: _rewrite(folder, made={}),
        lambda folder: _rewrite(folder, key="0123"),
    ],
    ids=[
        "cut off",
        "changed",
        "file missing",
        "entry missing",
        "entry cut off",
        "entry empty",
        "no files",
        "not made",
        "another's",
    ],
)
def test_a_damaged_entry_is_put_aside_and_done_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    job = add_job(41)
    store = Store(tmp_path / "store")
    entry = store.do(job)
    assert entry is not None
    damage(entry.folder)
    with pytest.warns(UserWarning, match="damaged run was moved to .*quarantine"):
        assert Store(store.root).find(job) is None
    assert len(list((store.root / "quarantine").iterdir())) == 1
    again = Store(store.root).do(job)
    assert again is not None and json.loads(again.file("sum.json").read_text()) == 41


def test_killed_between_its_description_and_the_rename(tmp_path: Path) -> None:
    log = tmp_path / "log"
    job = add_job(5, log=str(log))
    store = Store(tmp_path / "store")
    entry = store.do(job)
    assert entry is not None
    entry.folder.replace(store.root / "work" / job.key)
    found = Store(store.root).do(job)
    assert found is not None and log.read_text() == "5\n"


@pytest.mark.parametrize("damage", [_cut, lambda folder: (folder / "entry.json").write_text("")])
def test_what_the_disk_lost_before_the_rename_is_done_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    store, job = Store(tmp_path / "store"), add_job(5)
    entry = store.do(job)
    assert entry is not None
    entry.folder.replace(work := store.root / "work" / job.key)
    damage(work)
    found = Store(store.root).do(job)
    assert found is not None and json.loads(found.file("sum.json").read_text()) == 5
    found.check()


def test_a_useless_checkpoint_is_put_aside(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    job = micro.base(3)
    work = store.root / "work" / job.key
    work.mkdir(parents=True)
    (work / "checkpoint.safetensors").write_bytes(b"half a check")
    with pytest.warns(UserWarning, match="will be done again"):
        entry = store.do(job)
    assert entry is not None and entry.failed is None
    assert [p.name for p in (store.root / "quarantine").iterdir()] == [f"pretrain-{job.key}-0"]


def test_what_killed_writes_left_is_no_part_of_a_run(tmp_path: Path) -> None:
    store, job = Store(tmp_path / "store"), add_job(6)
    work = store.root / "work" / job.key
    work.mkdir(parents=True)
    (work / "old.csv").write_text("of an earlier attempt")
    (work / ".table.csv.tmp").write_text("half")
    entry = store.do(job)
    assert entry is not None
    assert {path.name for path in entry.folder.iterdir()} == {"entry.json", "sum.json", "table.csv"}


def test_a_good_entry_is_never_put_aside(tmp_path: Path) -> None:
    """What one process saw as damaged another has put right: only who holds the lock may judge."""
    store, job = Store(tmp_path / "store"), add_job(7)
    entry = store.do(job)
    assert entry is not None
    _cut(entry.folder)
    late = Store(store.root)
    with late._lock(job.key):  # another process is doing it again
        assert Store(store.root).find(job) is None
    assert entry.folder.exists() and not (store.root / "quarantine").exists()


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match="left as it is"):
        Store(tmp_path)
    Store(tmp_path / "store")
    (tmp_path / "store/store.json").write_text('{"mechft store": 99}')
    with pytest.raises(OutputExistsError, match="another format"):
        Store(tmp_path / "store")
    (tmp_path / "store/store.json").write_text("")
    with pytest.raises(OutputExistsError, match="another format"):
        Store(tmp_path / "store")
    for path in (tmp_path / "thesis.tex", tmp_path / "thesis.tex/below"):
        with pytest.raises(OutputExistsError, match="a file is in its place"):
            Store(path)


def _do_all(root: str, log: str, start: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    store = Store(root)
    for number in range(12):
        store.do(add_job((start + number) % 12, log=log, seconds=0.02))


def test_concurrent_writers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    writers = [
        context.Process(target=_do_all, args=(str(tmp_path / "store"), str(log), 3 * i, barrier))
        for i in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert sorted(map(int, log.read_text().split())) == list(range(12)), "each done once"
    store = Store(tmp_path / "store")
    for number in range(12):
        entry = store.find(add_job(number, log=str(log), seconds=0.02))
        assert entry is not None and json.loads(entry.file("sum.json").read_text()) == number
    assert not store.unfinished()


def test_busy_elsewhere(tmp_path: Path) -> None:
    store, job = Store(tmp_path / "store"), add_job(1)
    with store._lock(job.key) as held:
        assert held and store.do(job) is None
        assert not store.remove_unfinished(job.key)
    entry = store.do(job)
    assert entry is not None
    with store._lock(job.key), pytest.raises(OutputExistsError, match="in use"):
        store.remove(entry)
    shutil.rmtree(store.root)
