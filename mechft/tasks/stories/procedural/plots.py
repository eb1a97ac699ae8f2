"""All plots."""

from __future__ import annotations

from mechft.tasks.stories.procedural.plots_what import WHAT
from mechft.tasks.stories.procedural.plots_where import WHERE
from mechft.tasks.stories.procedural.plots_who import WHO

PLOTS = (*WHO, *WHAT, *WHERE)
