"""Building the bundled models: the same seed on the same machine gives the same hash."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mechft.errors import OutputExistsError, unknown_name
from mechft.experiments.store.entry import file_hash
from mechft.experiments.zoo_config import (
    BUNDLED_FINETUNED,
    BUNDLED_PROGRAMS,
    BUNDLED_STORIES,
    ZooConfig,
)
from mechft.experiments.zoo_stories import bundle_story_model
from mechft.files import write_text
from mechft.models.bundled import manifest
from mechft.models.tracr import rasp_module
from mechft.randomness import generator
from mechft.tasks.pcfg_config import OPERAND_PRIORS
from mechft.tasks.program_config import ProgramConfig
from mechft.training.behaviour import evaluation_batches
from mechft.training.compiled import compile_task
from mechft.training.evaluation import accuracy
from mechft.training.recipes import finetune, pretrain
from mechft.training.trained import MODEL_FILE, Trained, load, package_versions, save

_ROWS = 2000  # strings of a compiled program's accuracy in the manifest
_WORK = ".mechft-build"  # checkpoints of unfinished models, inside the output folder


def build_zoo(config: ZooConfig) -> dict[str, dict[str, Any]]:
    """Pretrain, compile or fine-tune the models of ``config`` and write them with ``manifest.json``.

    A model that the manifest describes and whose file is whole is kept; one that was interrupted goes
    on from its last checkpoint. The manifest is written after each model.

    Returns:
        The manifest.

    Raises:
        UnknownNameError: If a prior is not known.
        ConfigError: If a program is asked for and Tracr is not installed, or a study of stories is not
            finished.
        OutputExistsError: If the folder holds a model of other settings, a damaged one, or a file that
            no manifest describes; nothing is trained and nothing written over.

    Cost: 6 to 9 minutes a pretrained model on 2 cores, half a minute a fine-tuned one, some seconds a
    compiled one.
    """
    for prior in config.priors:
        if prior not in OPERAND_PRIORS:
            raise unknown_name("operand prior", prior, OPERAND_PRIORS)
    if config.programs:
        rasp_module()  # raises now rather than after an hour of pretraining
    makers = {name: partial(_compile, config, name) for name in config.programs}
    makers |= {_name(prior): partial(_pretrain, config, prior) for prior in config.priors}
    makers |= {name: partial(_finetune, config, name) for name in config.finetuned}
    if config.stories is not None:
        makers |= {name: partial(_story, config, name, config.stories) for name in BUNDLED_STORIES}
    entries = _manifest(config.out)
    missing = [name for name in makers if not _is_there(config, name, entries)]
    for name in missing:
        entries[name] = makers[name]()
        text = json.dumps(entries, indent=1, sort_keys=True) + "\n"
        write_text(config.out / "manifest.json", text)
        shutil.rmtree(config.out / _WORK / name)  # optimiser state, of no further use
    if missing and not any((config.out / _WORK).iterdir()):
        (config.out / _WORK).rmdir()
    return entries


def _name(prior: str) -> str:
    return f"pcfg-tiny-{prior.replace('_', '-')}"


def _command(config: ZooConfig, name: str) -> str:
    if name in BUNDLED_PROGRAMS:
        return f"mechft zoo build --programs {name} --priors"
    if name in BUNDLED_STORIES:
        return (
            "mechft reproduce tinystories --seeds 1 --out stories && mechft zoo build --stories stories "
            "--priors"
        )
    rest = f"--seed {config.seed}" + (f" --steps {config.steps}" if config.steps else "")
    if name in BUNDLED_FINETUNED:
        return f"mechft zoo build --finetuned {name} --priors {rest}"
    prior = next(prior for prior in OPERAND_PRIORS if _name(prior) == name)
    return f"mechft zoo build --priors {prior} {rest}"


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


def _is_there(config: ZooConfig, name: str, entries: dict[str, dict[str, Any]]) -> bool:
    """Whether a model is finished; raises if what is there is something else."""
    file = config.out / f"{name}.safetensors"
    if name not in entries:
        unfinished = (config.out / _WORK / name).exists()
        if file.exists() and not unfinished:
            raise OutputExistsError(
                f"{file} exists, and no manifest beside it says what it is; it was left as it is. "
                "Choose another folder with --out."
            )
        return False
    if entries[name]["command"] != _command(config, name):
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


def _pretrain(config: ZooConfig, prior: str) -> dict[str, Any]:
    name = _name(prior)
    work = config.out / _WORK / name
    trained = pretrain(
        "tiny", prior, steps=config.steps or None, seed=config.seed, directory=work, name=name
    )
    (work / MODEL_FILE).replace(file := config.out / f"{name}.safetensors")
    last = trained.lineage[-1]
    found = {"seed": config.seed, "steps": last["steps"], "accuracy": last["final"]}
    return _entry(config, trained, file) | found


def _finetune(config: ZooConfig, name: str) -> dict[str, Any]:
    recipe = BUNDLED_FINETUNED[name]
    base = load(recipe.base)
    work = config.out / _WORK / name
    trained = finetune(
        base,
        recipe.operand,
        train_correlation=recipe.train_correlation,
        steps=config.steps or recipe.steps,
        seed=config.seed,
        directory=work,
        name=name,
    )
    (work / MODEL_FILE).replace(file := config.out / f"{name}.safetensors")
    last = trained.lineage[-1]
    plain = {query: _plain_accuracy(trained, query) for query in base.lineage[-1]["final"]}
    # "steps" of an entry are pretraining's, by which studies find a base that is bundled.
    how = asdict(recipe) | {
        "base_sha256": manifest()[recipe.base]["sha256"],
        "steps": last["steps"],
    }
    found = {"seed": config.seed, "finetuning": how, "accuracy": plain | last["final"]}
    return _entry(config, trained, file) | found


def _plain_accuracy(trained: Trained, query: str) -> float:
    """Of a question like "C(a)", on the rows that the base was asked at the end of pretraining."""
    family, operand = query.removesuffix(")").split("(")
    rows = {query: trained.task.query(family, operand)}
    (batch,) = evaluation_batches(rows, trained.lineage[0]["seed"]).values()
    return accuracy(trained, batch).value


def _compile(config: ZooConfig, name: str) -> dict[str, Any]:
    program, operand = BUNDLED_PROGRAMS[name]
    compiled = compile_task(ProgramConfig(program), operand, name=name)
    work = config.out / _WORK / name
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed while it saved
    save(compiled, work / MODEL_FILE).replace(file := config.out / f"{name}.safetensors")
    batch = compiled.task.query(program, operand).sample(_ROWS, generator(0, "zoo"))
    right = accuracy(compiled, batch).value
    return _entry(config, compiled, file) | {"accuracy": {f"{program}({operand})": right}}


def _story(config: ZooConfig, name: str, study: Path) -> dict[str, Any]:
    work = config.out / _WORK / name
    work.mkdir(parents=True, exist_ok=True)
    entry = bundle_story_model(study, name, work / f"{name}.safetensors")
    (work / entry["file"]).replace(config.out / entry["file"])
    return entry | {"command": _command(config, name)}


def _entry(config: ZooConfig, trained: Trained, file: Path) -> dict[str, Any]:
    return {
        "file": file.name,
        "sha256": file_hash(file),
        "command": _command(config, trained.name),
        "task": trained.task.to_dict(),
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
    }
