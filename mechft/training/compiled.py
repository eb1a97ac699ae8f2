"""A program compiled by Tracr as the start of recipes: the counterpart of pretraining."""

from __future__ import annotations

from mechft.errors import unknown_name
from mechft.models.rasp_programs import counter_program, max_program
from mechft.models.tracr import compile_program
from mechft.tasks.program_config import ProgramConfig
from mechft.tasks.programs import ProgramTask
from mechft.training.trained import Trained


def compile_task(
    config: ProgramConfig | None = None, operand: str | None = None, *, name: str | None = None
) -> Trained:
    """The paper's Counter or Max-identifier for one operand, compiled (Jain et al., Sec. 4 and App. C).

    With Tracr's own exactness the Counter answers counts of 10 and more with too few (97.3% of strings of
    46 letters are right); ``compile_program`` makes it exact at the price of larger weights.

    Args:
        config: Program and lengths; the Counter of 46 letters by default.
        operand: What it answers for; O_PT of the task by default ("a", "5"). One compiled for O_FT is the
            start of the Scr.+FT control: it answers for O_FT and never answered for O_PT.
        name: What tables call the model; "tracr-PROGRAM", with the operand if it is not O_PT.

    Raises:
        ConfigError: If Tracr is not installed (names the command).
        UnknownNameError: If the operand is not one of the task's.

    Cost: 2 to 4 s; ``load("tracr-counter")`` and its like need neither that nor Tracr.

    Example:
        >>> import mechft as mf
        >>> base = mf.compile_task(mf.ProgramConfig("max", length=6))
        >>> rows = base.task.query("max", "5").sample(100, mf.generator(0))
        >>> base.name, mf.accuracy(base, rows).value
        ('tracr-max', 1.0)
    """
    task = ProgramTask(config)
    family, usual = task.config.program, task.contrast.pretraining_operand
    operand = usual if operand is None else operand
    if operand not in (known := task.operands(family)):
        raise unknown_name(f"operand of family {family}", operand, known)
    program = counter_program(operand) if family == "counter" else max_program(int(operand))
    name = name or f"tracr-{family}" + ("" if operand == usual else f"-{operand}")
    letters = [word for word in task.vocabulary.names if word not in ("$", "PAD")]
    compiled = compile_program(program, letters, task.config.length, name=name)
    facts = {"recipe": "compile", "program": family, "operand": operand}
    return Trained(compiled.model, task, (facts,), name=name)
