"""Figures as files: pictures for papers and slides, pages for the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mechft.errors import MechftError, require
from mechft.plots import plot

PICTURES = (".png", ".svg", ".pdf")
_HEIGHT = 450  # pixels, of a figure that does not say


class ExportError(MechftError, RuntimeError):
    """A picture cannot be made, because what draws it is missing."""


def save_figure(
    figure_or_result: Any,
    path: str | Path,
    *,
    width: int = 700,
    height: int | None = None,
    scale: float = 2,
) -> Path:
    """Write a figure, or the figure of a result, to a file; one that exists is overwritten.

    A page (.html) opens offline, plotly's script inside (4.8 MB), as wide as its window. Pictures (.png,
    .svg, .pdf) need the extra ``mechft[images]`` and Chrome or Chromium, which draws them without the
    network.

    Args:
        figure_or_result: A plotly figure, or whatever ``plot`` takes.
        path: The file; its ending says what is written, and its folder is made if missing.
        width, height: Of a picture, in pixels before ``scale``. Figures are made for 700 across, a
            notebook's width; the height is by default the figure's own.
        scale: Pixels of a .png for each of these; 2 is sharp on screens, 3 or more in print.

    Returns:
        The path.

    Raises:
        ConfigError: If the ending is another, or a size is not positive.
        TypeError: If there is no figure for this kind of result; lists those there are.
        ExportError: If a picture is asked for, and kaleido or Chrome is missing.

    Cost: a picture takes some seconds, most of them Chrome's start.

    Example:
        >>> import mechft as mf
        >>> base, ft = mf.load("pcfg-tiny-low"), mf.load("pcfg-tiny-low-to-b")
        >>> path = mf.save_figure(mf.diff_weights(base, ft), "figures/weights.html")  # or .png, .svg, .pdf
        >>> path.name
        'weights.html'
    """
    path = Path(path)
    endings = (".html", *PICTURES)
    require(
        path.suffix.lower() in endings,
        f"A figure is written as {', '.join(endings)}, as its file's name ends; got {path.name!r}. Give "
        "it one of these endings.",
    )
    sizes = {"width": width, "height": _HEIGHT if height is None else height, "scale": scale}
    for name, size in sizes.items():
        require(
            size > 0, f"The {name} of a figure is positive; got {size}. Leave it out for the usual."
        )
    import plotly.graph_objects as go

    is_figure = isinstance(figure_or_result, go.Figure)
    made = figure_or_result if is_figure else plot(figure_or_result)
    if path.suffix.lower() == ".html":
        content = made.to_html(include_plotlyjs=True, default_height=made.layout.height or _HEIGHT)
        data = content.encode()
    else:
        sizes["height"] = height or made.layout.height or _HEIGHT
        data = _picture(made, path.suffix.lower()[1:], sizes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _picture(made: Any, kind: str, sizes: dict[str, Any]) -> bytes:
    """The bytes of a picture, drawn by Chrome through kaleido."""
    try:
        import kaleido
        from kaleido.errors import ChromeNotFoundError
    except ImportError as error:
        raise ExportError(
            f"Pictures are drawn by kaleido, which is not installed ({error}): pip install "
            '"mechft[images]". Without it, a path that ends in .html gives a page.'
        ) from error
    try:
        # No figure has formulas: without MathJax nothing is asked of the network.
        found = kaleido.calc_fig_sync(
            made.to_dict(), opts={"format": kind, **sizes}, kopts={"mathjax": False}
        )
    except ChromeNotFoundError as error:
        raise ExportError(
            "Kaleido draws pictures with Chrome or Chromium, and found neither. Install one (apt install "
            "chromium; kaleido_get_chrome), or name it in the environment variable BROWSER_PATH. Without, "
            "a path that ends in .html gives a page."
        ) from error
    return bytes(found)
