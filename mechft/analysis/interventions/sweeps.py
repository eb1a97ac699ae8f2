"""Many interventions on the same rows, each without running again what it leaves as it was.

Any change at one place is a change of the residual stream after it: heads and neurons write to it
linearly. So the untouched model runs once, its residual streams are kept, and each intervention starts
from the stream it changes, on the fused forward, to the answer's position. Interventions that start at
the same place are stacked into one forward while they are few rows. Other models than the fused forward
covers run their own hooks: a HookedTransformer from the block touched, a bridge from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechft.analysis.activations import chunks
from mechft.analysis.interventions.edits import Edits, intervened, place_of
from mechft.analysis.metrics import MetricFunction, evaluate
from mechft.errors import require
from mechft.models.fused import (
    Edit,
    fused_embedding,
    fused_resume,
    unsupported_features,
)
from mechft.models.hook_points import device_of, has_hooks, resid_pre
from mechft.models.weights import is_hooked_transformer
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

_ROWS = 64  # rows of a chunk: bounds the memory of the kept streams
_STACKED_TOKENS = 8192  # tokens of a stacked forward; more did not gain on 2 cores

Start = tuple[int, Literal["pre", "mid"]]


@dataclass(frozen=True)
class SweepValues:
    """A metric's values, row by row.

    Attributes:
        cells: With each intervention. Float["cell metric row"].
        untouched: Without any. Float["metric row"].
    """

    cells: Float[Tensor, "cell metric row"]
    untouched: Float[Tensor, "metric row"]


@torch.no_grad()
def sweep(
    model: HookedTransformer,
    batch: TokenBatch,
    cells: Callable[[TokenBatch, slice], Sequence[Edits]],
    metrics: Mapping[str, MetricFunction],
) -> SweepValues:
    """Measure a model under many interventions, one at a time.

    Args:
        model: The model; unchanged.
        batch: Rows to measure on.
        cells: The interventions for some of the rows (and which rows these are): the same number of
            them each time, in the same order.
        metrics: What to measure, by name.

    Cost: one forward that keeps the residual streams, then per intervention what comes after it.
    """
    require(len(batch) > 0, "A batch needs at least one row; got none.")
    length, longest = batch.prompt.shape[1], int(model.cfg.n_ctx)
    require(length <= longest, f"Inputs hold at most n_ctx = {longest} tokens; got {length}.")
    batch = batch.to(device_of(model))
    touched: list[Tensor] = []
    untouched: list[Tensor] = []
    start = 0
    for chunk in chunks(batch, _ROWS):
        rows = slice(start, start := start + len(chunk))
        edits = cells(chunk, rows)
        runner = Runner(model, chunk, {name for cell in edits for name in cell})
        values: dict[int, Tensor] = {}
        for place, logits in runner.run(edits):  # each is measured at once, so none is kept
            found = [evaluate(m, logits, chunk, runner.logits) for m in metrics.values()]
            values[place] = torch.stack(found)
        touched.append(torch.stack([values[place] for place in range(len(edits))]))
        clean = [evaluate(m, runner.logits, chunk, runner.logits) for m in metrics.values()]
        untouched.append(torch.stack(clean))
    return SweepValues(torch.cat(touched, -1), torch.cat(untouched, -1))


class Runner:
    """One chunk of rows through one model: once untouched, then with changes.

    Args:
        model: The model.
        batch: The rows.
        hooks: Hook points that will be changed, so that their untouched values are kept.

    Attributes:
        logits: The untouched model's at the answer position. Float["row d_vocab"].
    """

    def __init__(self, model: HookedTransformer, batch: TokenBatch, hooks: set[str]) -> None:
        self.model, self.prompt = model, batch.prompt
        self.asked = torch.tensor([batch.answer_position], device=self.prompt.device)
        self.n_layers = int(model.cfg.n_layers)
        # Hooks of the caller's are part of the model: they run, each once, so nothing is skipped then.
        self.fast = not has_hooks(model) and not unsupported_features(model)
        self.resumable = not has_hooks(model) and is_hooked_transformer(model)
        self.kept: dict[str, Tensor] = {}
        if self.fast:
            wanted = {
                f"blocks.{i}.hook_resid_{s}" for i in range(self.n_layers) for s in ("pre", "mid")
            }
            wanted.add(f"blocks.{self.n_layers - 1}.hook_resid_post")
            wanted |= {name for name in hooks if name.endswith(("hook_z", "hook_post"))}
            self.logits = fused_resume(
                model,
                fused_embedding(model, self.prompt),
                self.asked,
                edits={name: self._keep(name) for name in wanted},
            )[:, 0]
        elif self.resumable:
            names = {resid_pre(i) for i in range(self.n_layers)}
            out: Any
            out, cache = model.run_with_cache(self.prompt, names_filter=lambda n: n in names)
            self.kept = {name: cache[name] for name in names}
            self.logits = out[:, -1].clone()
        else:
            self.logits = model(self.prompt)[:, -1].clone()

    def _keep(self, name: str) -> Edit:
        def keep(value: Tensor, at: Tensor | None) -> Tensor:
            self.kept[name] = value
            return value

        return keep

    def run(self, cells: Sequence[Edits]) -> Iterator[tuple[int, Float[Tensor, "row d_vocab"]]]:
        """Which intervention, and the answer's logits under it; not always in order."""
        if not self.fast:
            for place, cell in enumerate(cells):
                yield place, self._hooked(cell)
            return
        waiting: dict[Start, list[tuple[int, Tensor]]] = {}
        for place, cell in enumerate(cells):
            start, resid, rest = self._start(cell)
            if rest:
                yield place, self._resume(start, resid, rest)
                continue
            stack = waiting.setdefault(start, [])
            stack.append((place, resid))
            if sum(r.shape[0] * r.shape[1] for _, r in stack) >= _STACKED_TOKENS:
                yield from self._finish(start, waiting.pop(start))
        for start, stack in waiting.items():
            yield from self._finish(start, stack)

    def _finish(
        self, start: Start, stack: list[tuple[int, Tensor]]
    ) -> Iterator[tuple[int, Tensor]]:
        logits = self._resume(start, torch.cat([resid for _, resid in stack]), {})
        for (place, _), part in zip(stack, logits.split(len(self.prompt)), strict=True):
            yield place, part

    def _resume(self, start: Start, resid: Tensor, edits: Edits) -> Tensor:
        block, stage = start
        here = resid.shape[1] == len(self.asked) != self.prompt.shape[1]
        if here:  # the last block's values are at the asked position only; edits are told which
            edits = {name: self._at_asked(change) for name, change in edits.items()}
        asked = None if here else self.asked
        return fused_resume(self.model, resid, asked, block=block, stage=stage, edits=edits)[:, -1]

    def _at_asked(self, change: Edit) -> Edit:
        return lambda value, at: change(value, self.asked if at is None else at)

    def _start(self, cell: Edits) -> tuple[Start, Tensor, Edits]:
        """Where the rest of the forward starts, from which stream, and what is still to be changed."""
        order = sorted(cell, key=place_of)
        block, point = place_of(order[0])
        half = [name for name in order if place_of(name)[0] == block]
        half = [name for name in half if (place_of(name)[1] < 3) == (point < 3)]
        last = block == self.n_layers - 1
        pre, mid = (self.kept[f"blocks.{block}.hook_resid_{stage}"] for stage in ("pre", "mid"))
        if len(half) > 1:
            return ((block, "pre"), pre, cell) if point < 3 else ((block, "mid"), mid, cell)
        name = order[0]
        rest = {other: cell[other] for other in order[1:]}
        if point == 0:  # resid_pre
            return (block, "pre"), cell[name](pre, None), rest
        at = self.asked if last else None
        attn: Any = self.model.blocks[block].attn
        mlp: Any = self.model.blocks[block].mlp
        if point == 1:  # z
            z = self.kept[name]
            return (block, "mid"), mid + _written(cell[name](z, at) - z, attn.W_O), rest
        if point == 2:  # attn_out
            out = mid - (pre[:, self.asked] if last else pre)
            return (block, "mid"), mid + (cell[name](out, at) - out), rest
        if point == 3:  # resid_mid
            return (block, "mid"), cell[name](mid, at), rest
        post = self._post(block)
        if point == 4:  # neurons
            hidden = self.kept[name]
            return (block + 1, "pre"), post + (cell[name](hidden, at) - hidden) @ mlp.W_out, rest
        if point == 5:  # mlp_out
            out = post - mid
            return (block + 1, "pre"), post + (cell[name](out, at) - out), rest
        return (block + 1, "pre"), cell[name](post, at), rest

    def _post(self, block: int) -> Tensor:
        if block == self.n_layers - 1:
            return self.kept[f"blocks.{block}.hook_resid_post"]
        return self.kept[resid_pre(block + 1)]

    def _hooked(self, cell: Edits) -> Tensor:
        out: Tensor
        with intervened(self.model, cell):
            if self.resumable:
                block = min(place_of(name)[0] for name in cell)
                out = self.model(self.kept[resid_pre(block)], start_at_layer=block)
            else:
                out = self.model(self.prompt)
        return out[:, -1].clone()  # a view would keep every position's logits alive


def _written(z: Float[Tensor, "row pos head d_head"], w_o: Tensor) -> Float[Tensor, "row pos d"]:
    return z.flatten(2) @ w_o.flatten(0, 1)
