"""The command line: parses, calls, prints. No science, and no torch until a command runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from mechft.errors import MechftError
from mechft.experiments.checks import Check
from mechft.experiments.compare.config import DiffConfig
from mechft.experiments.demo_config import DemoConfig
from mechft.experiments.pcfg.config import STUDIES, StudyConfig
from mechft.experiments.runs_config import RunsExport, RunsList, RunsRemove, RunsShow
from mechft.experiments.stories.config import StoriesConfig
from mechft.experiments.tracr_config import TracrConfig, TracrCounterConfig, TracrMaxConfig
from mechft.experiments.zoo_config import ZooConfig


@dataclass(frozen=True)
class ZooList:
    """List the bundled models: how each was made, and how well it answers.

    Example: mechft zoo list

    Attributes:
        json: Print the manifest as JSON.
    """

    json: bool = False


@dataclass(frozen=True)
class ReportConfig:
    """Write the report of a study or a comparison anew from its tables (CSV); nothing is trained.

    Example: mechft report study/main-tiny-3-seeds --out here

    Attributes:
        folder: Where mechft reproduce or mechft diff wrote results.json and the tables.
        out: Where to write report.html; by default beside them.
        json: Print settings, claims and the report's place as JSON.
    """

    folder: tyro.conf.Positional[Path]
    out: Path | None = None
    json: bool = False


Zoo = Annotated[
    Annotated[ZooConfig, tyro.conf.subcommand("build")]
    | Annotated[ZooList, tyro.conf.subcommand("list")],
    tyro.conf.subcommand("zoo", description="Bundled models: list them, or train them anew."),
]
_REPRODUCTIONS = {
    "tracr-counter": TracrCounterConfig,
    "tracr-max": TracrMaxConfig,
    **STUDIES,
    StoriesConfig.name: StoriesConfig,
}
# A union made at run time, one subcommand a reproduction.
Reproduce: Any = Annotated[
    Union[  # noqa: UP007
        tuple(Annotated[made, tyro.conf.subcommand(name)] for name, made in _REPRODUCTIONS.items())
    ],
    tyro.conf.subcommand(
        "reproduce", description="The paper's experiments, with its claims checked."
    ),
]
Runs = Annotated[
    Annotated[RunsList, tyro.conf.subcommand("list")]
    | Annotated[RunsShow, tyro.conf.subcommand("show")]
    | Annotated[RunsRemove, tyro.conf.subcommand("rm")]
    | Annotated[RunsExport, tyro.conf.subcommand("export")],
    tyro.conf.subcommand("runs", description="Runs that studies keep: list, show, remove, export."),
]
Command: Any = (
    Annotated[DemoConfig, tyro.conf.subcommand("demo")]
    | Annotated[DiffConfig, tyro.conf.subcommand("diff")]
    | Reproduce
    | Runs
    | Annotated[ReportConfig, tyro.conf.subcommand("report")]
    | Zoo
)


CONFIG = (tyro.conf.OmitSubcommandPrefixes,)
_DESCRIPTION = """What did fine-tuning do to this model?

mechft COMMAND --help explains a command with an example; mechft --version says which mechft this is.

mechft --tyro-print-completion bash (or zsh, tcsh) prints completions for the shell to read.

Exit codes: 0 done, 1 refused or failed, 2 not understood, 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0 done, 1 refused or failed (the error says why and what to do), 2 a command line that
        is not understood (raised as SystemExit), 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(f"mechft {version('mechft')}")
        return 0
    try:
        command = tyro.cli(
            Command,
            prog="mechft",
            description=_DESCRIPTION,
            args=arguments,
            config=CONFIG,
        )
        next(run for kind, run in _RUNNERS if isinstance(command, kind))(command)
        sys.stdout.flush()
    except MechftError as error:
        print(f"mechft: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stopped:
        said = (
            str(stopped) or "interrupted; what is finished is kept, and the same command goes on."
        )
        print(f"\nmechft: {said}", file=sys.stderr)
        return 130
    return 0


def _demo(config: DemoConfig) -> None:
    print("Loading (importing TransformerLens takes some seconds) …", flush=True)
    from mechft.experiments.demo import run_demo
    from mechft.report.demo import write_demo_report

    result = run_demo(config)
    _conclude(result.checks, write_demo_report(result))


def _diff(config: DiffConfig) -> None:
    from mechft.report.comparison import compare

    found = compare(
        config.base,
        config.finetuned,
        config.data,
        control=config.control,
        out=config.out,
        device=config.device,
        progress=not config.json,
        **vars(config.settings),
    )
    report = (config.out / "report.html").resolve()
    if config.json:
        _print_json({**found.to_dict(), "report": str(report)})
    else:
        print(f"\n{found}\n\nReport: {report}")


def _reproduce(config: TracrConfig) -> None:
    print("Loading (importing TransformerLens takes some seconds) …", flush=True)
    from mechft.experiments.tracr import run_tracr
    from mechft.report.tracr import write_tracr_report

    result = run_tracr(config)
    _conclude(result.checks, write_tracr_report(result))


def _study(config: StudyConfig) -> None:
    from mechft.experiments.pcfg.study import run_study
    from mechft.report.study import write_study_report

    result = run_study(config)
    _conclude(result.checks, write_study_report(result))


def _stories(config: StoriesConfig) -> None:
    from mechft.experiments.stories.study import run_stories
    from mechft.report.stories import write_stories_report

    result = run_stories(config)
    _conclude(result.checks, write_stories_report(result))


def _report(config: ReportConfig) -> None:
    from mechft.experiments.compare.files import is_comparison, read_comparison
    from mechft.experiments.sweep.result import reproduction_of

    out = config.out or config.folder
    result: Any
    if is_comparison(config.folder):
        from mechft.report.comparison import write_comparison_report

        result = read_comparison(config.folder)
        report = write_comparison_report(result, out)
        if not config.json:
            print(f"\n{result}\n\nReport: {report.resolve()}")
            return
    elif reproduction_of(config.folder) == StoriesConfig.name:
        from mechft.experiments.stories.result import read_stories_result
        from mechft.report.stories import write_stories_report

        result = read_stories_result(config.folder)
        report = write_stories_report(result, out)
    else:
        from mechft.experiments.pcfg.result import read_result
        from mechft.report.study import write_study_report

        result = read_result(config.folder)
        report = write_study_report(result, out)
    if config.json:
        _print_json({**result.to_dict(), "report": str(report.resolve())})
    else:
        _conclude(result.checks, report)


def _runs(command: RunsList | RunsShow | RunsRemove | RunsExport) -> None:
    from mechft.experiments import runs

    print(runs.run_command(command))


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


def _zoo_list(command: ZooList) -> None:
    from mechft.models.bundled import manifest

    if command.json:
        _print_json(manifest())
        return
    for name, entry in manifest().items():
        accuracies = "  ".join(f"{q} {a:.0%}" for q, a in entry["accuracy"].items())
        task = entry["task"]
        if task["kind"] == "program":
            made = f"compiled by Tracr for strings of {task['length']} letters"
        elif how := entry.get("story"):
            deleted = f", {how['protocol']} at rate {how['rate']}" if how["protocol"] else ""
            made = f"a language model of {task['source']} stories: {how['model']}{deleted}"
        elif how := entry.get("finetuning"):
            correlated = f"C_Tr = {how['train_correlation']:g}"
            made = (
                f"{how['base']} fine-tuned on {how['operand']}, {correlated}; {how['steps']} steps"
            )
        else:
            prior = ", ".join(f"{p:g}" for p in task["operand_prior"])
            made = f"P(a, b, c) = ({prior}); {entry['steps']} steps"
        print(f"{name}\n    {made}; {accuracies}")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


_RUNNERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], None]], ...] = (
    (DemoConfig, _demo),
    (DiffConfig, _diff),
    (TracrConfig, _reproduce),
    (StudyConfig, _study),
    (StoriesConfig, _stories),
    (ReportConfig, _report),
    (ZooConfig, _zoo_build),
    (ZooList, _zoo_list),
    ((RunsList, RunsShow, RunsRemove, RunsExport), _runs),
)


if __name__ == "__main__":
    sys.exit(main())
