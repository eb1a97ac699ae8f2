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
from mechft.training.trained import package_versions, save


def build_zoo(config: ZooConfig) -> dict[str, dict[str, Any]]:
    """Pretrain the models of ``config`` and write them with ``manifest.json``.

    A model whose file is there already is kept; one that was interrupted goes on from its last
    checkpoint. The manifest is written after each model.

    Returns:
        The manifest.

    Raises:
        UnknownNameError: If a prior is not known.
        OutputExistsError: If the folder holds a model of another seed or number of steps.

    Cost: 5 to 10 minutes a model on 2 cores.
    """
    for prior in config.priors:
        if prior not in OPERAND_PRIORS:
            raise unknown_name("operand prior", prior, OPERAND_PRIORS)
    path = config.out / "manifest.json"
    entries: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for prior in config.priors:
        name = f"pcfg-tiny-{prior.replace('_', '-')}"
        command = f"mechft zoo build --priors {prior} --seed {config.seed}"
        command += f" --steps {config.steps}" if config.steps else ""
        if name in entries:
            if entries[name]["command"] != command:
                raise OutputExistsError(
                    f"{config.out} holds {name} made by '{entries[name]['command']}'; it was left as "
                    "it is. Choose another folder."
                )
            continue
        entries[name] = _build(config, name, prior, command)
        path.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
        shutil.rmtree(config.out / "runs" / name)  # optimiser state, of no further use
    shutil.rmtree(config.out / "runs", ignore_errors=True)
    return entries


def _build(config: ZooConfig, name: str, prior: str, command: str) -> dict[str, Any]:
    work = config.out / "runs" / name
    file = config.out / f"{name}.safetensors"
    # A file that no manifest names is what an interrupted build left: the run beside it, which is
    # removed last, writes the same bytes again.
    if file.exists() and work.exists():
        file.unlink()
    trained = pretrain(
        "tiny", prior, steps=config.steps or None, seed=config.seed, directory=work, name=name
    )
    save(trained, file)
    (entry,) = trained.lineage
    return {
        "file": file.name,
        "sha256": file_hash(file),
        "command": command,
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
