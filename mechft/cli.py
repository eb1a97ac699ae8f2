"""The command line: parses, calls, prints. No science, and no torch until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from mechft.errors import MechftError
from mechft.experiments.demo_config import DemoConfig
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
Command = Annotated[DemoConfig, tyro.conf.subcommand("demo")] | Zoo


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
    path = write_demo_report(result)
    print()
    for check in result.checks:
        print(f"{'✓' if check.holds else '✗'} {check.claim}\n    {check.evidence}")
    print(f"\nReport: {path.resolve()}")


def _zoo_build(config: ZooConfig) -> None:
    from mechft.experiments.zoo import build_zoo

    for name, entry in build_zoo(config).items():
        print(f"{name}  sha256 {entry['sha256'][:16]}…  {config.out / entry['file']}")


def _zoo_list() -> None:
    from mechft.models.bundled import manifest

    for name, entry in manifest().items():
        accuracies = "  ".join(f"{q} {a:.0%}" for q, a in entry["accuracy"].items())
        prior = ", ".join(f"{p:g}" for p in entry["task"]["operand_prior"])
        print(f"{name}\n    P(a, b, c) = ({prior}); {entry['steps']} steps; {accuracies}")


if __name__ == "__main__":
    sys.exit(main())
