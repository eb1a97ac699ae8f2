"""Files are whole or not there: replaced in one step, left as they were by whatever goes wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mechft.files import replacing, write_text

TEXT = "ä, a line\r\nanother\n"


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_and_nothing_is_left_beside_it(
    sync: bool, shared: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file.txt"
    for text in ("before", TEXT):
        assert write_text(path, text, sync=sync, shared=shared) == path
    assert path.read_bytes() == TEXT.encode()  # UTF-8, line ends as they are
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("there", [False, True])
def test_what_fails_leaves_what_was_there(
    error: type[BaseException], there: bool, tmp_path: Path
) -> None:
    path = tmp_path / "file.txt"
    if there:
        path.write_text("before")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"] * there


def test_until_the_end_readers_see_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "file.txt", "before")
    with replacing(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"


def test_what_a_kill_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.txt.tmp").write_text("half")
    path = write_text(tmp_path / "file.txt", "whole")
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "whole"


def test_processes_that_share_a_file_do_not_share_what_they_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that write at once: neither takes away the other's, and the last one's stays."""
    path = tmp_path / "file.txt"
    with replacing(path, shared=True) as one:
        one.write_text("one")
        monkeypatch.setattr(os, "getpid", lambda: -1)
        write_text(path, "two", shared=True)
        assert path.read_text() == "two" and one.read_text() == "one"
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]
