"""Picking the reader, splits, folders, archives and the hub; everything that is no story source."""

from __future__ import annotations

import io
import json
import random
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mechft.errors import ConfigError, UnknownNameError
from mechft.tasks.stories.counts import ReadCounts
from mechft.tasks.stories.sources import read_stories
from mechft.tasks.stories.split import Split
from tests.tasks.stories.test_readers import ELEMENTS, RECORDS, TEXT


def numbered(count: int, start: int = 0) -> str:
    return "".join(
        f"Words: w\nStory: \n\nStory {start + i}.\n<|endoftext|>\n" for i in range(count)
    )


def shard(*numbers: int) -> str:
    return json.dumps([{**ELEMENTS[0], "story": f"Story {number}."} for number in numbers])


def told(source: str | Path, split: Split, counts: ReadCounts | None = None) -> list[int]:
    """The numbers of the stories that come out."""
    stories = [record.story for record in read_stories(source, split=split, counts=counts)]
    return [int(story.removeprefix("Story ").removesuffix(".")) for story in stories]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
    ],
    ids=["plain", "byte order mark", "CRLF"],
)
def test_text_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stories"
    path.write_bytes(content)
    counts = ReadCounts()
    assert list(read_stories(path, split="all", counts=counts)) == RECORDS
    assert not counts.stray_lines and not counts.undecodable


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode().replace(b"duck. ", b"duc\xe9. ", 1))
    counts = ReadCounts()
    records = list(read_stories(path, split="all", counts=counts))
    assert records[1].story == "Pip had a duc\N{REPLACEMENT CHARACTER}. The duck was not a duck."
    assert counts.undecodable == 1 and counts.records == 3


def test_one_file_is_split_by_place(tmp_path: Path) -> None:
    """Every twentieth record is held out; both splits together are the file, in order."""
    path = tmp_path / "a.txt"
    path.write_text(numbered(50))
    counts = ReadCounts()
    assert told(path, "validation", counts) == [19, 39]
    assert counts.records == 2 and counts.other_split == 48
    train = told(path, "train")
    assert sorted([*train, 19, 39]) == told(path, "all") == list(range(50))


def test_folders_of_shards(tmp_path: Path) -> None:
    """The first shard is for validation, as in the paper's code; files that hold no stories are ignored."""
    for i in range(3):
        (tmp_path / f"data0{i}.json").write_text(shard(10 * i, 10 * i + 1))
    (tmp_path / "README.md").write_text("About these files.")
    assert told(tmp_path, "validation") == [0, 1]
    assert told(tmp_path, "train") == [10, 11, 20, 21]
    assert told(tmp_path, "all") == [0, 1, 10, 11, 20, 21]


def test_folders_with_named_splits(tmp_path: Path) -> None:
    (tmp_path / "TinyStories-Instruct-train.txt").write_text(numbered(3))
    (tmp_path / "TinyStories-Instruct-valid.txt").write_text(numbered(2, 100))
    assert told(tmp_path, "train") == [0, 1, 2]
    assert told(tmp_path, "validation") == [100, 101]


def _archive(path: Path, **shards: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in shards.items():
            entry = tarfile.TarInfo(f"./{name}.json")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_archives(tmp_path: Path) -> None:
    path = _archive(tmp_path / "a.tar.gz", a=shard(0, 1), b=shard(2), c=shard(3))
    assert told(path, "all") == [0, 1, 2, 3]
    assert told(path, "validation") == [0, 1]
    assert told(path, "train") == [2, 3]


def test_an_archive_cut_off(tmp_path: Path) -> None:
    """Its whole shards come, and the counts say that it was cut."""
    noise = "".join(random.Random(0).choices("abcdefgh ", k=300_000))  # so that it compresses badly
    long = json.dumps([{"story": f"{noise}{i}"} for i in range(4)])
    path = _archive(tmp_path / "a.tar.gz", a=shard(0, 1), b=long)
    path.write_bytes(path.read_bytes()[:200_000])
    counts = ReadCounts()
    records = list(read_stories(path, split="all", counts=counts))
    assert [record.story for record in records[:2]] == ["Story 0.", "Story 1."]
    assert 2 <= len(records) < 6 and "a.tar.gz" in counts.cut_off_files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"Once upon a time there was a file.\n", "it begins with 'Once upon a time"),
        (b'{"name": "a config"}', r"""it begins with '{"name": "a config"}'"""),
        (b"PAR1\x15\x04", r"it begins with 'PAR1"),
    ],
)
def test_neither_format(tmp_path: Path, content: bytes, message: str) -> None:
    """The error says what was looked for and what the file begins with, before anything is read."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_stories(path)
    assert "Words: …" in str(caught.value) and "JSON list" in str(caught.value)


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*nowhere"):
        read_stories(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds none"):
        read_stories(tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'validation'"):
        read_stories(tmp_path, split="valid")  # type: ignore[arg-type]
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.json").write_text(shard(1))
    with pytest.raises(ConfigError, match=r"a.txt \(text\), b.json \(json\)"):
        read_stories(tmp_path)
    (tmp_path / "c.tar.gz").write_bytes(b"\x1f\x8b no archive")
    with pytest.raises(ConfigError, match="is none"):
        list(read_stories(tmp_path / "c.tar.gz"))


def test_a_source_without_one_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Words: a\nStory: \n\nA story that has no en")
    with pytest.raises(ConfigError, match=r"holds none \(0 records; 1 left out: cut off"):
        list(read_stories(path))
    path.write_text(TEXT)
    with pytest.raises(ConfigError, match="every 20th record"):
        list(read_stories(path, split="validation"))


class Hub:
    """Stands in for ``datasets`` and ``huggingface_hub``: answers or fails, and notes what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, offline: bool = False) -> None:
        self.asked: list[Any] = []
        self.error: Exception | None = None
        self.lost: Exception | None = None
        constants = SimpleNamespace(HF_HUB_OFFLINE=offline)
        hub = SimpleNamespace(HfApi=lambda: self, constants=constants)
        monkeypatch.setitem(sys.modules, "datasets", self)
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)

    def dataset_info(self, name: str, timeout: float) -> None:
        self.asked.append(("info", timeout))
        if self.error:
            raise self.error

    def load_dataset(self, name: str, split: str, streaming: bool) -> Iterator[dict[str, str]]:
        self.asked.append((split, streaming))
        if self.error:
            raise self.error
        return self._rows(split)

    def _rows(self, split: str) -> Iterator[dict[str, str]]:
        for line in (TEXT if split == "train" else numbered(2)).splitlines():
            yield {"text": line}
        if self.lost:
            raise self.lost


def test_the_hub_gives_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are put together from rows of one line each; empty lines are rows too."""
    hub = Hub(monkeypatch)
    assert list(read_stories("hub")) == RECORDS
    assert hub.asked == [("info", 10.0), ("train", True)]
    assert told("hub", "validation") == [0, 1]
    assert len(list(read_stories("hub", split="all"))) == 5


def test_the_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request, at once, and an error that says what to do without a network."""
    hub = Hub(monkeypatch)
    hub.error = OSError("Name or service not known")
    with pytest.raises(ConfigError, match=r"takes a network.*Name or service") as caught:
        read_stories("hub")
    assert [what for what, _ in hub.asked] == ["info"]
    for option in ("TinyStories-Instruct-train.txt", "TinyStories_all_data.tar.gz", "procedural"):
        assert option in str(caught.value)


def test_the_hub_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the network: what is cached is opened, or an error names the local options."""
    hub = Hub(monkeypatch, offline=True)
    assert list(read_stories("hub")) == RECORDS
    assert hub.asked == [("train", False)]
    hub.error = ConnectionError("Couldn't reach the hub")
    with pytest.raises(ConfigError, match=r"HF_HUB_OFFLINE is set.*Local options"):
        read_stories("hub")


def test_the_hub_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install datasets.*Local options"):
        read_stories("hub")


def test_the_hub_lost_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    hub.lost = OSError("reset by peer")
    with pytest.raises(ConfigError, match=r"lost after 21 rows .*reset by peer.*Local options"):
        list(read_stories("hub"))


def test_rows_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    monkeypatch.setattr(hub, "_rows", lambda split: iter([{"story": "A story."}]))
    with pytest.raises(ConfigError, match=r"row 1 has \['story'\]"):
        list(read_stories("hub"))
