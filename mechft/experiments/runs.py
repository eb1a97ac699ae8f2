"""``mechft runs``: looking at a store, and tidying it."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mechft.errors import CheckpointError, OutputExistsError, unknown_name
from mechft.experiments.runs_config import RunsExport, RunsList, RunsRemove, RunsShow
from mechft.experiments.store.entry import DamagedEntryError, Entry
from mechft.experiments.store.folder import STORE_FILE
from mechft.experiments.store.store import Store


def run_command(command: RunsList | RunsShow | RunsRemove | RunsExport) -> str:
    """Carry out a command on a store and say what came of it.

    Raises:
        CheckpointError: If the folder is no store.
        UnknownNameError: If a key is not known, or begins several runs.
        OutputExistsError: If the folder to export to exists, or a run to remove is in use.
    """
    if not (command.store / STORE_FILE).exists():
        raise CheckpointError(
            f"{command.store} is no store of runs ({STORE_FILE} is missing). Give a study's with --store, "
            "such as study/store."
        )
    store = Store(command.store)
    if isinstance(command, RunsList):
        return _list(store, command)
    if isinstance(command, RunsShow):
        return _show(store, store.entry(command.key))
    if isinstance(command, RunsRemove):
        return _remove(store, command)
    return _export(store, command)


def _list(store: Store, command: RunsList) -> str:
    entries = _of_kind(store.entries(), command.kind)
    if command.json:
        told = [{**entry.description, "bytes": entry.size} for entry in entries]
        return json.dumps({"runs": told, "unfinished": store.unfinished()}, indent=1)
    lines = [
        f"{entry.key[:8]}  {entry.kind:<9} {entry.description['made']['time'][:16].replace('T', ' ')}  "
        f"{entry.description['made']['seconds']:7.1f} s  {_in_short(entry)}"
        for entry in entries
    ]
    size = sum(entry.size for entry in entries) / 1e6
    lines.append(f"{len(entries)} runs, {size:.1f} MB in {store.root}")
    if unfinished := store.unfinished():
        lines.append(f"{len(unfinished)} unfinished: {', '.join(key[:8] for key in unfinished)}")
    if damaged := list((store.root / "quarantine").glob("*")):
        lines.append(f"{len(damaged)} damaged, put aside in {store.root / 'quarantine'}")
    return "\n".join(lines)


def _of_kind(entries: list[Entry], kind: str | None) -> list[Entry]:
    kinds = sorted({entry.kind for entry in entries})
    if kind is not None and kind not in kinds:
        raise unknown_name("kind of run in this store", kind, kinds)
    return [entry for entry in entries if kind in (None, entry.kind)]


_SHORT = (
    "prior",
    "train_correlation",
    "learning_rate",
    "steps",
    "start",
    "pretraining_share",
    "randomised",
    "seed",
)


def _in_short(entry: Entry) -> str:
    words = [f"{name}={entry.settings[name]}" for name in _SHORT if name in entry.settings]
    words += [f"{name}={key[:8]}" for name, key in entry.description["needs"].items()]
    return " ".join(words) + (f"  FAILED: {entry.failed}" if entry.failed else "")


def _show(store: Store, entry: Entry) -> str:
    try:
        entry.check()
        whole = "whole"
    except DamagedEntryError as error:
        whole = f"DAMAGED: {error}"
    needed = [
        other for other in store.entries() if entry.key in other.description["needs"].values()
    ]
    shown = {**entry.description, "folder": str(entry.folder), "state": whole}
    shown["needed by"] = [f"{other.kind} {other.key}" for other in needed]
    return json.dumps(shown, indent=1)


def _remove(store: Store, command: RunsRemove) -> str:
    lines = []
    chosen = {entry.key: entry for entry in map(store.entry, command.keys)}
    for entry in chosen.values():  # all were known before one is gone
        store.remove(entry)
        lines.append(f"Removed {entry.kind} {entry.key}.")
    if command.unfinished:
        for key in store.unfinished():
            done = store.remove_unfinished(key)
            lines.append(f"Removed unfinished {key}." if done else f"Left {key}: it is being done.")
    if command.quarantine:
        for folder in sorted((store.root / "quarantine").glob("*")):
            shutil.rmtree(folder)
            lines.append(f"Removed damaged {folder.name}.")
    return "\n".join(lines) or "Nothing to remove."


def _export(store: Store, command: RunsExport) -> str:
    chosen = {entry.key: entry for entry in map(store.entry, command.keys)}
    entries = _of_kind(list(chosen.values()) or store.entries(), command.kind)
    if command.out.exists():
        raise OutputExistsError(
            f"{command.out} exists and was left as it is. Choose another --out."
        )
    temporary = command.out.with_name(f".{command.out.name}.{os.getpid()}.tmp")
    for entry in entries:
        entry.check()
        folder = temporary / f"{entry.kind}-{entry.key[:8]}"
        folder.mkdir(parents=True)
        for name in entry.description["files"]:
            if command.models or not name.endswith(".safetensors"):
                shutil.copyfile(entry.file(name), folder / name)
    _write_csv(temporary / "runs.csv", [_row(entry) for entry in entries])
    temporary.replace(command.out)
    return f"{len(entries)} runs copied to {command.out}."


def _row(entry: Entry) -> dict[str, Any]:
    made = entry.description["made"]
    row = {"key": entry.key, "kind": entry.kind, "time": made["time"], "seconds": made["seconds"]}
    row |= {f"needs.{name}": key for name, key in entry.description["needs"].items()}
    return row | dict(_flat(entry.settings)) | {"failed": entry.failed or ""}


def _flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", json.dumps(value) if isinstance(value, list) else value


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
