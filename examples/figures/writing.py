"""How often do story models write a Conflict when asked for one, and when not?

The bundled base, the same model after the deletion protocol F+RR, and one pretrained without such stories;
the generator's own rule reads what they write. That the deleted model writes as few as the one that never
saw any says nothing yet of whether it still could: notebooks/08_stories.ipynb goes on.

Takes about 56 CPU seconds.

Usage: python examples/figures/writing.py [FILE.png]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mechft as mf
from mechft.usage import run_figure


def has_conflict(texts: Sequence[str]) -> list[bool | None]:
    """Whether each story tells of a quarrel; None where it tells neither that nor its opposite."""
    return [mf.read_features(text)["Conflict"] for text in texts]


def main(path: str | Path = "writing.png", *, rows: int = 128) -> Path:
    """Let three models write to instructions that no model was trained on."""
    opened: dict[str, Any] = {
        name: mf.open_model(f"stories-tiny-{name}") for name in ("base", "deleted", "never")
    }
    drawn = list(mf.ProceduralStories().stories(20 * rows, seed=2026))
    asked = [story for story in drawn if "Conflict" in story.features][:rows]
    unasked = [story for story in drawn if "Conflict" not in story.features][:rows]
    found = mf.generation_score(
        {name: model.model for name, model in opened.items()},
        {
            "asked for a Conflict": mf.story_prompts(asked),
            "not asked": mf.story_prompts(unasked),
        },
        {"the generator's rule": has_conflict},
        opened["base"].coder,
        new_tokens=150,
        stop_token=0,
    )
    return mf.save_figure(found, path)


if __name__ == "__main__":
    run_figure(main)
