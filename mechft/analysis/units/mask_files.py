"""Masks on disk: one safetensors file with a JSON header that says which units they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mechft.analysis.units.layout import UnitLayout
from mechft.analysis.units.masks import UnitMask
from mechft.errors import CheckpointError, MechftError, OutputExistsError

FORMAT = 1
_HEADER = "mechft_mask"


def save_mask(mask: UnitMask, path: str | Path) -> Path:
    """Write a mask with its kind of unit and the shape of the model it was made for.

    A process killed at any moment leaves a whole file or none.

    Args:
        mask: The mask.
        path: The file; its folder is made if missing.

    Returns:
        The path.

    Raises:
        OutputExistsError: If the file exists; nothing is overwritten.

    Example:
        >>> import mechft as mf
        >>> mask = mf.random_scores(mf.load("pcfg-tiny-low-to-b"), seed=0).top(15)
        >>> path = mf.save_mask(mask, "masks/random.safetensors")
        >>> mf.load_mask(path) == mask
        True
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.exists():
        raise OutputExistsError(f"{path} exists and is not overwritten. Choose another name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = {name: list(shape) for name, shape in mask.layout.shapes.items()}
    # A list of pairs: the order of matrices numbers the units.
    header = {"format": FORMAT, "unit": mask.layout.unit, "shapes": list(shapes.items())}
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        tensors = {group: units.contiguous() for group, units in mask.chosen.items()}
        save_file(tensors, temporary, {_HEADER: json.dumps(header)})
        temporary.chmod(0o644)  # safetensors makes files only their owner can read
        try:
            os.link(temporary, path)  # unlike a rename, fails if another process was faster
        except FileExistsError:
            raise OutputExistsError(
                f"{path} exists and is not overwritten. Choose another name."
            ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_mask(path: str | Path) -> UnitMask:
    """Read a mask that ``save_mask`` wrote.

    Args:
        path: The file.

    Raises:
        CheckpointError: If the file is missing, damaged or not a mask; it is not touched.

    Example:
        >>> import mechft as mf
        >>> ft = mf.load("pcfg-tiny-low-to-b")
        >>> path = mf.save_mask(mf.random_scores(ft, seed=0).top(15), "random.safetensors")
        >>> with mf.pruned(ft, mf.load_mask(path)):
        ...     pass  # look at it here
        >>> len(mf.load_mask(path))
        15
        >>> mf.load_mask("elsewhere.safetensors")
        Traceback (most recent call last):
        mechft.errors.CheckpointError: There is no mask file at elsewhere.safetensors.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no mask file at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}). It was left as it is; save the mask again."
        ) from error
    if _HEADER not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a mask that save_mask wrote (its header has no "
            f"{_HEADER!r}). Load models with mechft.load."
        )
    try:
        header = json.loads(metadata[_HEADER])
        if header["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has mask format {header['format']}; this version reads {FORMAT}. Use the version "
                "of mechft that wrote it."
            )
        layout = UnitLayout(
            header["unit"], {name: tuple(shape) for name, shape in header["shapes"]}
        )
        return UnitMask({group: tensors[group] for group in layout.sizes}, layout)
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, MechftError) as error:
        raise CheckpointError(
            f"{path}: its header does not describe the mask in it ({error}). It was left as it is; save the "
            "mask again."
        ) from error
