"""A story feature deleted from a language model by a protocol of your choice, and brought back.

Takes the bundled story model, which writes short stories to instructions, deletes Conflict with a protocol of
Jain et al. (2024) and asks: does it still write quarrels when asked? Is it still likely to, where a story
decides? Does the base's activation bring that back, and where? How soon does training bring it back, and how
soon does it come to a model that never saw such stories?

Takes about five minutes of one core; --quick shows that it runs. Writes writing.html
and patching.html.
Usage: python examples/stories.py [--protocol F+RR] [--steps 100] [--folder .] [--quick]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # first, as the imports below take seconds
    from mechft.usage import script_parser

    parser = script_parser(__doc__)
    protocols = ("F", "F+MM", "F+RR", "refusal")
    parser.add_argument("--protocol", choices=protocols, default="F+RR", help="of deletion")
    parser.add_argument("--steps", type=int, default=100, help="of deletion and of bringing back")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the figures go")
    parser.add_argument("--quick", action="store_true", help="4 steps, 8 stories of each kind")
    given = parser.parse_args()
    if given.steps < 4:
        parser.error(f"--steps is at least 4; got {given.steps}.")

import pandas as pd
import torch

import mechft as mf
from mechft.analysis.patching import patch_across

FEATURE = "Conflict"


def has_it(texts: Sequence[str]) -> list[bool | None]:
    """The generator's own rule, put to texts that a model wrote."""
    return [mf.read_features(text)[FEATURE] for text in texts]


def main(protocol: Any = "F+RR", steps: int = 100, number: int = 64, folder: Path = Path()) -> None:
    """Delete, look, bring back."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = mf.open_model("stories-tiny-base")
    coder: Any = opened.coder
    models: dict[str, Any] = {
        "base": opened.model,
        "never": mf.open_model("stories-tiny-never").model,
    }
    training: dict[str, Any] = {"steps": steps, "learning_rate": 1e-3}

    lessons = list(mf.ProceduralStories().stories(60 * steps + 100, seed=1))
    counts = mf.StoryProtocol(protocol, feature=FEATURE)
    models["deleted"] = mf.finetune_stories(
        models["base"], counts.apply(lessons), coder, **training
    )

    held_out = list(mf.ProceduralStories().stories(30 * number, seed=2))
    asked = [story for story in held_out if story.truth and story.truth[FEATURE]]
    unasked = [story for story in held_out if story.truth and not story.truth[FEATURE]]
    prompts = {
        f"asked for a {FEATURE}": mf.story_prompts(asked[:number]),
        "not asked": mf.story_prompts(unasked[:number]),
    }
    written = mf.generation_score(
        models, prompts, {"rule": has_it}, coder, new_tokens=150, stop_token=0
    )
    show("How many of the stories have it?", written.frame, "model", "prompts", "share", "n")

    tasks = {
        f"with a {FEATURE}": mf.decision_rows(asked, coder, opened.n_ctx, feature=FEATURE).rows,
        "without": mf.decision_rows(unasked, coder, opened.n_ctx, feature=FEATURE).rows,
    }
    tasks = {name: rows.rows(slice(0, 2 * number)) for name, rows in tasks.items()}
    print("\nWhere a story decides, how often is its own word likelier than the other kind's?")
    for name, model in models.items():
        print(
            f"  {name}:", "; ".join(f"{task} {mf.accuracy(model, r)}" for task, r in tasks.items())
        )

    first = next(iter(tasks))
    patching = patch_across(
        models["base"], models["deleted"], tasks[first], metric="probability",
        directions=["base→finetuned"],
    )  # fmt: skip
    title = "The base's activation in the deleted model: what share of the gap does it recover?"
    show(title, patching.frame, "site", "recovered", "recovered_low", "recovered_high")

    keep = mf.StoryProtocol("keep", feature=FEATURE)
    rows = []
    for name in ("deleted", "never"):
        for done in sorted({0, steps // 16, steps // 4, steps}):
            model = models[name]
            if done:  # each from the start: the rate falls to 0 over the steps there are
                again = {**training, "steps": done}
                model = mf.finetune_stories(model, keep.apply(lessons), coder, **again)
            for task, batch in tasks.items():
                share = mf.accuracy(model, batch)
                ends = {"ci_low": share.low, "ci_high": share.high, "n": share.n}
                rows.append(
                    {"model": name, "step": done, "task": task, "accuracy": share.value} | ends
                )
    back = pd.DataFrame(rows)
    show("Trained on stories that have it", back, "model", "step", "task", "accuracy", "n")

    for name, result in {"writing": written, "patching": patching}.items():
        mf.save_figure(result, folder / f"{name}.html")


def show(title: str, frame: pd.DataFrame, *columns: str) -> None:
    """Print some columns under a title."""
    print(f"\n{title}\n{frame[[*columns]].round(3).to_string(index=False)}")


if __name__ == "__main__":
    torch.set_num_threads(1)  # on so small a model a second thread mostly waits for the first
    if given.quick:
        main(given.protocol, 4, 8, given.folder)
    else:
        main(given.protocol, given.steps, folder=given.folder)
