"""Building the bundled models: the same seed on the same machine gives the same hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from mechft.errors import OutputExistsError, unknown_name
from mechft.experiments.zoo_config import ZooConfig
from mechft.tasks.pcfg_config import OPERAND_PRIORS
from mechft.training.recipes import pretrain
from mechft.training.trained import MODEL_FILE, package_versions

_WORK = ".mechft-build"  # checkpoints of unfinished models, inside the output folder


def build_zoo(config: ZooConfig) -> dict[str, dict[str, Any]]:
    """Pretrain the models of ``config`` and write them with ``manifest.json``.

    A model that the manifest describes and whose file is whole is kept; one that was interrupted goes
    on from its last checkpoint. The manifest is written after each model.

    Returns:
        The manifest.

    Raises:
        UnknownNameError: If a prior is not known.
        OutputExistsError: If the folder holds a model of other settings, a damaged one, or a file that
            no manifest describes; nothing is trained and nothing written over.

    Cost: 6 to 9 minutes a model on 2 cores.
    """
    for prior in config.priors:
        if prior not in OPERAND_PRIORS:
            raise unknown_name("operand prior", prior, OPERAND_PRIORS)
    entries = _manifest(config.out)
    missing = [prior for prior in config.priors if not _is_there(config, prior, entries)]
    for prior in missing:
        name = _name(prior)
        entries[name] = _build(config, prior)
        text = json.dumps(entries, indent=1, sort_keys=True) + "\n"
        temporary = config.out / ".manifest.json.tmp"
        temporary.write_text(text)
        temporary.replace(config.out / "manifest.json")
        shutil.rmtree(config.out / _WORK / name)  # optimiser state, of no further use
    if missing and not any((config.out / _WORK).iterdir()):
        (config.out / _WORK).rmdir()
    return entries


def _name(prior: str) -> str:
    return f"pcfg-tiny-{prior.replace('_', '-')}"


def _command(config: ZooConfig, prior: str) -> str:
    steps = f" --steps {config.steps}" if config.steps else ""
    return f"mechft zoo build --priors {prior} --seed {config.seed}{steps}"


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_text())
        ours = all({"file", "sha256", "command"} <= entry.keys() for entry in entries.values())
    except (json.JSONDecodeError, AttributeError):
        ours = False
    if not ours:
        raise OutputExistsError(
            f"{path} is not a manifest of ours; it was left as it is. Choose another folder with --out."
        )
    return entries


def _is_there(config: ZooConfig, prior: str, entries: dict[str, dict[str, Any]]) -> bool:
    """Whether a model is finished; raises if what is there is something else."""
    name = _name(prior)
    file = config.out / f"{name}.safetensors"
    if name not in entries:
        unfinished = (config.out / _WORK / name).exists()
        if file.exists() and not unfinished:
            raise OutputExistsError(
                f"{file} exists, and no manifest beside it says what it is; it was left as it is. "
                "Choose another folder with --out."
            )
        return False
    if entries[name]["command"] != _command(config, prior):
        raise OutputExistsError(
            f"{config.out} holds {name} made by '{entries[name]['command']}'; it was left as it is. "
            "Choose another folder with --out."
        )
    if not file.exists() or file_hash(file) != entries[name]["sha256"]:
        raise OutputExistsError(
            f"{file} is missing or differs from its manifest's hash; it was left as it is. Remove the "
            "file and its entry in manifest.json to build it again, or choose another folder."
        )
    return True


def _build(config: ZooConfig, prior: str) -> dict[str, Any]:
    name = _name(prior)
    work = config.out / _WORK / name
    trained = pretrain(
        "tiny", prior, steps=config.steps or None, seed=config.seed, directory=work, name=name
    )
    file = config.out / f"{name}.safetensors"
    (work / MODEL_FILE).replace(file)
    entry = trained.lineage[-1]
    return {
        "file": file.name,
        "sha256": file_hash(file),
        "command": _command(config, prior),
        "seed": config.seed,
        "task": trained.task.to_dict(),
        "steps": entry["steps"],
        "accuracy": entry["final"],
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
    }


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
