"""The command line: parses, calls, prints. No science, and no torch until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mechft.errors import MechftError
from mechft.experiments.checks import Check
from mechft.experiments.demo_config import DemoConfig
from mechft.experiments.tracr_config import TracrConfig, TracrCounterConfig, TracrMaxConfig
from mechft.experiments.zoo_config import ZooConfig


@dataclass(frozen=True)
class ZooList:
    """List the bundled models: how each was made, and how well it answers.

    Example: mechft zoo list
    """


Zoo = Annotated[
    Annotated[ZooConfig, tyro.conf.subcommand("build")]
    | Annotated[ZooList, tyro.conf.subcommand("list")],
    tyro.conf.subcommand("zoo", description="Bundled models: list them, or train them anew."),
]
Reproduce = Annotated[
    Annotated[TracrCounterConfig, tyro.conf.subcommand("tracr-counter")]
    | Annotated[TracrMaxConfig, tyro.conf.subcommand("tracr-max")],
    tyro.conf.subcommand(
        "reproduce", description="The paper's experiments, with its claims checked."
    ),
]
Command = Annotated[DemoConfig, tyro.conf.subcommand("demo")] | Reproduce | Zoo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 refused or failed, 130 interrupted."""
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="mechft",
        description="What did fine-tuning do to this model?",
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    try:
        if isinstance(command, DemoConfig):
            _demo(command)
        elif isinstance(command, TracrConfig):
            _reproduce(command)
        elif isinstance(command, ZooConfig):
            _zoo_build(command)
        else:
            _zoo_list()
    except MechftError as error:
        print(f"mechft: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmechft: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _demo(config: DemoConfig) -> None:
    print("Loading (importing TransformerLens takes some seconds) …", flush=True)
    from mechft.experiments.demo import run_demo
    from mechft.report.demo import write_demo_report

    result = run_demo(config)
    _conclude(result.checks, write_demo_report(result))


def _reproduce(config: TracrConfig) -> None:
    print("Loading (importing TransformerLens takes some seconds) …", flush=True)
    from mechft.experiments.tracr import run_tracr
    from mechft.report.tracr import write_tracr_report

    result = run_tracr(config)
    _conclude(result.checks, write_tracr_report(result))


def _conclude(checks: Iterable[Check], report: Path) -> None:
    marks = {True: "✓", False: "✗", None: "?"}
    print()
    for check in checks:
        print(f"{marks[check.holds]} {check.claim}\n    {check.evidence}")
    print(f"\nReport: {report.resolve()}")


def _zoo_build(config: ZooConfig) -> None:
    from mechft.experiments.zoo import build_zoo

    for name, entry in build_zoo(config).items():
        print(f"{name}  sha256 {entry['sha256'][:16]}…  {config.out / entry['file']}")


def _zoo_list() -> None:
    from mechft.models.bundled import manifest

    for name, entry in manifest().items():
        accuracies = "  ".join(f"{q} {a:.0%}" for q, a in entry["accuracy"].items())
        task = entry["task"]
        if task["kind"] == "program":
            made = f"compiled by Tracr for strings of {task['length']} letters"
        else:
            prior = ", ".join(f"{p:g}" for p in task["operand_prior"])
            made = f"P(a, b, c) = ({prior}); {entry['steps']} steps"
        print(f"{name}\n    {made}; {accuracies}")


if __name__ == "__main__":
    sys.exit(main())
