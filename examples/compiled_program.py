"""A model whose mechanism is known: compile one, retrain one, and see whether the tools find what moved.

With the defaults the Max-identifier comes to answer the sixth largest letter instead of the fifth, shortcut
or not. Block 0 tells a letter's rank from how much of its attention is left for "$"; after fine-tuning it
leaves a little more, so that the channel "rank:4" marks the sixth. Removing single weights does not bring
the fifth back; the base's output of block 0 does.

Takes under a minute on 2 cores and writes maps.html, attention.html, pruning.html, patching.html and
revival.html.
Usage: python examples/compiled_program.py [--steps 200] [--rows 500] [--seed 0] [--folder .] [--quick]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

if __name__ == "__main__":  # first, as the imports below take seconds
    from mechft.usage import script_parser

    parser = script_parser(__doc__)
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of each training")
    parser.add_argument("--rows", type=int, default=500, help="strings behind each number")
    parser.add_argument("--seed", type=int, default=0, help="of noise, batches and strings")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the figures go")
    parser.add_argument(
        "--quick", action="store_true", help="100 steps, 100 strings: shows that it runs"
    )
    given = parser.parse_args()
    if min(given.steps, given.rows) < 1:
        parser.error(f"--steps and --rows are at least 1; got {given.steps} and {given.rows}.")
    if given.quick:
        given.steps, given.rows = 100, 100

import torch

import mechft as mf
from mechft.statistics import proportion
from mechft.training.trained import Trained

INTERVAL = ["ci_low", "ci_high", "n"]


def your_own_program() -> None:
    """How often each letter of a string occurs in it, as a transformer; only this needs Tracr."""
    try:
        from tracr.rasp import rasp
    except ImportError:
        print(
            'To compile programs of your own: pip install "mechft[tracr]"; the rest goes without.'
        )
        return
    same = rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.EQ)
    program = rasp.SelectorWidth(same).named("times")
    compiled = mf.compile_program(program, "abc", length=6)
    print("A program of your own: times each letter of abacab occurs", compiled.run("abacab"))
    _, cache = compiled.model.run_with_cache(compiled.encode("abacab")[None])
    three = cache["resid_post", 0][0, 1:, mf.channel(compiled.model, "times:3")]
    print('Its residual channel "times:3", letter by letter:', three.round().int().tolist())


def marked_by_rank_4(trained: Trained, operand: str, rows: int) -> str:
    """In how many strings the channel "rank:4" is largest at the letter that answers an operand."""
    task = trained.task
    batch = task.query("max", operand).sample(rows, mf.generator(0))
    _, cache = trained.model.run_with_cache(batch.prompt)
    place = cache["resid_post", 0][:, :, mf.channel(trained.model, "rank:4")].argmax(1)
    marked = task.vocabulary.decode(batch.prompt.gather(1, place[:, None])[:, 0])
    right = task.answer_vocabulary.decode(batch.answer)
    return str(proportion(sum(a == b for a, b in zip(marked, right, strict=True)), rows))


def show(title: str, frame: Any, *columns: str) -> None:
    """Print some columns of a result under a title."""
    print(f"\n{title}\n{frame[[*columns]].round(4).to_string(index=False)}")


def main(steps: int = 200, rows: int = 500, seed: int = 0, folder: Path = Path()) -> None:
    """Move the Max-identifier from the fifth to the sixth largest letter, and look at what moved."""
    folder.mkdir(parents=True, exist_ok=True)
    your_own_program()

    base = mf.densify(mf.load("tracr-max"), seed=seed).renamed(
        "base"
    )  # noise lets gradients through
    training: dict[str, Any] = {"learning_rate": "VS", "steps": steps, "evaluation_size": rows}
    ft = mf.finetune(base, "6", train_correlation=1.0, seed=seed, name="fine-tuned", **training)
    ends = ft.history[ft.history["step"].isin([0, steps])]
    title = (
        "Right about the fifth (pt) and sixth (ft) letter, with the shortcut (cte1) and without:"
    )
    show(title, ends, "step", "evaluation", "accuracy", *INTERVAL)

    print('\nWhere is "rank:4", the mark of a letter with four before it, after block 0?')
    for trained in (base, ft):
        fifth, sixth = (marked_by_rank_4(trained, operand, rows) for operand in ("5", "6"))
        print(f"  {trained.name}: at the fifth letter in {fifth}, at the sixth in {sixth}")

    attention = mf.diff_attention(base, ft, size=rows, seed=seed)
    title = (
        "How far did attention move? (0 bits: not at all, 1: elsewhere. Block 0 sorts, 2 reads.)"
    )
    show(title, attention.frame, "block", "js", *INTERVAL)
    rest = attention.mass.frame.query("block == 0 and group == '$'")
    show('How much of block 0\'s is left for "$"?', rest, "model", "mass", *INTERVAL)

    counts = (0, 1, 5, 20)
    pruning = mf.prune_curve(ft, unit="weight", counts=counts, test_size=rows, seed=seed)
    title = "Does removing single weights bring the fifth letter back?"
    show(title, pruning.frame, "k", "score", "task", "accuracy", *INTERVAL)

    patching = mf.patch_across(base, ft, sites=("attn_out", "mlp_out"), size=rows, seed=seed)
    back = patching.frame.query("direction == 'base→finetuned' and task == 'acc_pt'")
    show("Does putting in the base's output of one block?", back, "site", "value", *INTERVAL)

    reft = mf.reverse_finetune(ft, seed=seed, **training)
    control = mf.densify(mf.load("tracr-max-6"), seed=seed)  # never answered for the fifth
    never = mf.scratch_finetune(control, contrast=ft.contrast, seed=seed, **training)
    curve = mf.revival({"reFT": reft, "Scr.+FT": never})
    title = "Does training back, and further than a program that was compiled for the sixth?"
    show(title, curve.frame.groupby("model").tail(1), "model", "step", "accuracy", *INTERVAL)

    maps = mf.attention_maps(base, ft, seed=seed)
    figures = {"maps": maps, "attention": attention, "pruning": pruning, "patching": patching}
    for name, result in {**figures, "revival": curve}.items():
        mf.plot(result).write_html(folder / f"{name}.html", include_plotlyjs=True)


if __name__ == "__main__":
    torch.set_num_threads(1)  # on so small a model a second thread mostly waits for the first
    main(given.steps, given.rows, given.seed, given.folder)
