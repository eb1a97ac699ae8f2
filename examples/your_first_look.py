"""A base model, a fine-tuned one, and six questions: the toolkit in one page.

Takes a few minutes on 2 cores and writes probe.html, prune.html and revival.html beside it.
Usage: python examples/your_first_look.py
"""

from __future__ import annotations

from pathlib import Path

import mechft as mf
from mechft.usage import script_parser


def main(steps: int = 300, rows: int = 1500, folder: Path = Path()) -> None:
    """Fine-tune a bundled model to count b instead of a, and look at what happened to a."""
    base = mf.load("pcfg-tiny-low").renamed("base")
    ft = mf.finetune(base, "b", train_correlation=1.0, steps=steps, name="fine-tuned")
    print(ft.history.pivot(index="step", columns="evaluation", values="accuracy").tail(3))

    print(
        "\nIs the count of a still linearly readable, block by block? (In a random model it is, too.)"
    )
    probes = mf.probe(
        base, ft, operands=["a"], train_size=rows, test_size=rows, controls=("random_model",)
    )
    columns = ["model", "block", "control", "accuracy", "majority"]
    print(probes.frame[columns].to_string(index=False))

    print("\nDoes removing a few neurons bring it back?")
    pruning = mf.prune_curve(ft, revive="a", watch="b", counts=(0, 5, 15), test_size=rows // 4)
    print(pruning.frame[["k", "score", "task", "accuracy"]].to_string(index=False))
    print(pruning.where(15).to_string(index=False))

    print("\nWhich weights moved most?")
    moved = mf.diff_weights(base, ft).frame.nlargest(5, "relative_change")
    print(moved[["parameter", "relative_change", "effective_rank"]].to_string(index=False))

    print("\nAt which place does the base's activation bring it back?")
    patched = mf.patch_across(base, ft, size=rows // 4)
    print(patched.frame[["direction", "site", "task", "recovered"]].to_string(index=False))

    print("\nHow fast does it come back, against a model that never counted a?")
    back = mf.reverse_finetune(ft, steps=steps, stop_at=0.97)
    control = mf.scratch_finetune(mf.load("pcfg-tiny-never-a"), steps=steps, stop_at=0.97)
    curve = mf.revival({"reFT": back, "Scr.+FT": control})
    print(curve.steps_to(0.95))

    print("\nRetained, wrapped or damaged?")
    never = mf.load("pcfg-tiny-never-a")
    print(mf.diagnose(base, ft, never, revivals=curve, fit_size=rows, test_size=rows))

    for name, result in {"probe": probes, "prune": pruning, "revival": curve}.items():
        mf.plot(result).write_html(folder / f"{name}.html", include_plotlyjs=True)


if __name__ == "__main__":
    script_parser(__doc__).parse_args()
    main()
