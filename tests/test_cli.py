"""The command line: help, exit codes, and errors that a person can act on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import tyro

from mechft import cli
from mechft.errors import unknown_name
from mechft.experiments.zoo_config import ZooConfig
from mechft.models.bundled import manifest
from mechft.randomness import generator
from mechft.training.trained import load

COMMANDS = [
    ["demo"],
    ["diff"],
    ["report"],
    ["zoo", "build"],
    ["zoo", "list"],
    *(["runs", name] for name in ("list", "show", "rm", "export")),
    *(["reproduce", name] for name in cli._REPRODUCTIONS),
]


def _help(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_the_help_fits_a_screen_and_says_what_scripts_need(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = _help([], capsys)
    assert text.startswith("usage: mechft") and len(text.splitlines()) <= 40
    assert "Exit codes" in text and "--version" in text and "--tyro-print-completion" in text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_an_example_that_parses(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = _help(command, capsys)
    (found,) = re.findall(r"Example: mechft (.*?)\n\n", text, re.DOTALL)
    example = found.split()
    assert example[: len(command)] == command
    assert tyro.cli(cli.Command, args=example, config=cli.CONFIG) is not None


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mechft {version('mechft')}\n"


def test_diff_writes_what_it_says_and_report_makes_it_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = load("pcfg-tiny-low").task
    batch = task.query("C", "a").sample(20, generator(0))
    words = [task.vocabulary.decode(row.tolist()) for row in batch.tokens]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": " ".join(row)}) + "\n" for row in words))
    out = tmp_path / "out"
    pair = ["diff", "pcfg-tiny-low", "pcfg-tiny-never-a", "--data", str(data), "--out", str(out)]
    assert cli.main([*pair, "--quick", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["findings"] and told["data"]["counts"]["read"] == len(batch)
    page = Path(told["report"]).read_text()
    Path(told["report"]).unlink()
    assert cli.main(["report", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    headings = re.compile(r"<h2.*?</h2>")  # tables are kept to eight digits, so figures differ
    assert headings.findall(Path(again["report"]).read_text()) == headings.findall(page) != []
    assert again["findings"] == told["findings"]
    assert cli.main([*pair[:-1], str(tmp_path), "--quick"]) == 1  # holds other things
    assert "left as it is" in " ".join(capsys.readouterr().err.split())


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m mechft.cli zoo list --json"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 5"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout[:1], done.stderr) == (0, "{", "")


def test_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--sede", "1"])
    assert stop.value.code == 2
    assert "--seed" in capsys.readouterr().err


def test_zoo_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["zoo", "list"]) == 0
    text = capsys.readouterr().out
    assert "pcfg-tiny-low" in text and "P(a, b, c) = (0.999, 0.001, 0)" in text
    assert cli.main(["zoo", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == manifest()


def test_zoo_build_is_reproducible_and_keeps_what_is_there(tmp_path: Path) -> None:
    arguments = ["zoo", "build", "--priors", "low", "--steps", "2", "--out"]
    hashes = []
    for name in ("one", "two"):
        assert cli.main([*arguments, str(tmp_path / name)]) == 0
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        hashes.append(manifest["pcfg-tiny-low"]["sha256"])
    assert hashes[0] == hashes[1]
    before = (tmp_path / "one" / "pcfg-tiny-low.safetensors").stat().st_mtime_ns
    assert cli.main([*arguments, str(tmp_path / "one")]) == 0
    assert (tmp_path / "one" / "pcfg-tiny-low.safetensors").stat().st_mtime_ns == before
    assert cli.main([*arguments, str(tmp_path / "one"), "--seed", "1"]) == 1
    assert {p.name for p in (tmp_path / "one").iterdir()} == {
        "manifest.json",
        "pcfg-tiny-low.safetensors",
    }
    (tmp_path / "one" / "pcfg-tiny-low.safetensors").write_bytes(b"damaged")
    assert cli.main([*arguments, str(tmp_path / "one")]) == 1


def test_compiled_programs_are_built_bit_for_bit_as_they_ship(tmp_path: Path) -> None:
    names = ["tracr-counter-b", "tracr-max"]
    assert cli.main(["zoo", "build", "--priors", "--programs", *names, "--out", str(tmp_path)]) == 0
    built = json.loads((tmp_path / "manifest.json").read_text())
    for name in names:
        ours = {k: built[name][k] for k in ("sha256", "accuracy", "task", "command")}
        assert ours == {k: manifest()[name][k] for k in ours}
    with pytest.raises(SystemExit):  # neither a prior nor a program
        cli.main(["zoo", "build", "--priors", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    "foreign", ["manifest.json", "pcfg-tiny-low.safetensors", "runs/precious.txt"]
)
def test_zoo_build_leaves_foreign_files_alone(tmp_path: Path, foreign: str) -> None:
    """Whatever else lies in the folder stays; what is in the way is refused before training."""
    path = tmp_path / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"mine": 1}')
    arguments = ["zoo", "build", "--priors", "low", "--steps", "1", "--out", str(tmp_path)]
    assert cli.main(arguments) == (0 if foreign.startswith("runs") else 1)
    assert path.read_text() == '{"mine": 1}'


def test_zoo_build_unknown_prior(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["zoo", "build", "--priors", "lowe", "--out", str(tmp_path / "z")]) == 1
    assert "Did you mean 'low'" in capsys.readouterr().err
    assert not (tmp_path / "z").exists()


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(config: ZooConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mechft.experiments.zoo.build_zoo", interrupt)
    assert cli.main(["zoo", "build"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_unknown_name_lists_nearest_and_known() -> None:
    text = str(unknown_name("preset", "tny", ["tiny", "paper"]))
    assert text == "Unknown preset 'tny'. Did you mean 'tiny'? Known: tiny, paper."
