"""Many models of one shape trained at once, as one batched computation.

Parameters are stacked along a first axis of members and the fused forward is mapped over it with
``torch.func.vmap``: the same forward and the same loss as ``train``, no second one to keep in step. Each
member has its own data, learning rate, schedule, optimiser state and fate; what it becomes equals what
``train`` makes of it, up to rounding.

For a GPU, whose kernels one small model cannot fill. On a CPU one after the other is faster (``python -m
tests.benchmarks.ensemble``). It has been run on CPUs only, where attention
is written out; what a GPU's kernels do under vmap is untested.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mechft.errors import ConfigError, require, unknown_name
from mechft.models.build import model_config
from mechft.models.fused import unsupported_features
from mechft.models.hook_points import device_of, has_hooks
from mechft.statistics import Proportion
from mechft.tasks.batch import Source, TokenBatch
from mechft.training.config import TrainConfig
from mechft.training.evaluation import NoAnswerError, accuracy
from mechft.training.interrupt import deferred_interrupt
from mechft.training.loop import _batches, batch_loss
from mechft.training.precision import computing_in
from mechft.training.progress import Progress
from mechft.training.run import evaluation_records, trained_parameters
from mechft.training.stacked import StackedAdamW, StackedOptimizer, StackedSGD, clipped, per_member

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SHARED_SETTINGS = (
    "steps",
    "batch_size",
    "loss",
    "answer_weight",
    "optimizer",
    "frozen",
    "precision",
)
"""Settings that members of an ensemble have in common; all others are each member's own."""

_STEPS_PER_LOOK = 20  # the progress bar's loss is fetched this often: fetching makes a GPU wait


@dataclass(frozen=True)
class MemberHistory:
    """What became of one member.

    Attributes:
        records: Its evaluations, as ``train`` returns them; none after it diverged or stopped.
        diverged_at: The step, from 1, whose loss or gradient was not finite; its weights are those
            before that step: finite, but not good, as they gave that loss. Where an evaluation found logits
            that are not finite, the step after it, even if none was to come. None if it went well.
    """

    records: tuple[dict[str, Any], ...]
    diverged_at: int | None = None


def train_ensemble(
    models: Sequence[HookedTransformer],
    sources: Sequence[Source],
    configs: Sequence[TrainConfig],
    *,
    evaluations: Sequence[Mapping[str, TokenBatch]] | None = None,
    label: str = "ensemble",
) -> list[MemberHistory]:
    """Train models of one shape in place, all at once; each as ``train`` would train it.

    A member whose loss, gradient or evaluated logits stop being finite keeps the weights before that step and
    takes no further part; the others go on as if nothing had happened, bit for bit. The same with a member
    that reaches its ``stop_at``. No checkpoints are written; ``checkpoint_every`` is not used.

    Args:
        models: HookedTransformers that the fused forward covers, of one shape and on one device.
        sources: Where each member's batches come from. A batch depends on seed and step as in ``train``;
            members that share the source object and the seed share the drawing.
        configs: How to train each member; equal in ``SHARED_SETTINGS``.
        evaluations: Batches to measure each member's accuracy on, at its ``evaluate_at``.
        label: What the progress bar says.

    Returns:
        One history a member.

    Raises:
        ConfigError: If the members differ in shape, device or a shared setting, or in number.
        UnknownNameError: If an evaluation to stop at, or a parameter to freeze, does not exist.
        KeyboardInterrupt: On Ctrl-C; all models are then left after the same number of steps.

    Cost: memory for the parameters three times over (SGD) or four times (AdamW), and all members'
    activations at once.
    """
    wanted = [{} for _ in models] if evaluations is None else list(evaluations)
    _check_members(models, sources, configs, wanted)
    ensemble = _Ensemble(models, configs, wanted)
    bar = Progress()
    bar.began(label, configs[0], 0)
    with deferred_interrupt() as interrupted:
        try:
            ensemble.evaluate()
            batches = _stacked_batches(sources, configs, ensemble.device)
            for tokens, answers, position in () if ensemble.finished else batches:
                ensemble.advance(tokens, answers, position)
                if ensemble.step % _STEPS_PER_LOOK == 0:
                    ensemble.look()
                bar.stepped(ensemble.step, ensemble.shown_loss)
                ensemble.evaluate()
                if ensemble.finished or interrupted():
                    break
        finally:
            ensemble.write_back()
            bar.ended(ensemble.step)
    if interrupted():
        raise KeyboardInterrupt
    return ensemble.histories()


class _Loss(torch.nn.Module):
    """One member's loss as a module, so that ``functional_call`` can lend it a member's parameters."""

    def __init__(self, model: HookedTransformer, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, tokens: Tensor, answer: Tensor, position: int) -> Tensor:
        return batch_loss(self.model, TokenBatch(tokens, position, answer), self.config)


class _Ensemble:
    """Members in progress: stacked parameters, optimiser, who is still alive, and the records."""

    def __init__(
        self,
        models: Sequence[HookedTransformer],
        configs: Sequence[TrainConfig],
        evaluations: Sequence[Mapping[str, TokenBatch]],
    ) -> None:
        self.models, self.configs, self.evaluations = models, configs, evaluations
        self.device = device_of(models[0])
        trained = trained_parameters(models[0], configs[0])
        self.stacked = {
            name: torch.stack([m.get_parameter(name).detach() for m in models])
            for name, _ in models[0].named_parameters()
        }
        self.names = list(trained)
        self.parameters = [self.stacked[name].requires_grad_() for name in self.names]
        made = StackedSGD if configs[0].optimizer == "sgd" else StackedAdamW
        self.optimizer: StackedOptimizer = made(configs, self.parameters)
        self.clips = None
        if any(c.gradient_clip is not None for c in configs):
            clips = [math.inf if c.gradient_clip is None else c.gradient_clip for c in configs]
            self.clips = per_member(clips, self.parameters[0])
        self.loss = _Loss(models[0], configs[0])
        self.step = 0
        self.losses = torch.full((len(models),), math.nan, device=self.device)
        self.alive = torch.ones(len(models), dtype=torch.bool, device=self.device)
        # The step that went wrong; 0 while none did. On the device, so that no step waits for it.
        self.failed = torch.zeros(len(models), dtype=torch.long, device=self.device)
        self.records: list[list[dict[str, Any]]] = [[] for _ in models]
        self.shown_loss = math.nan
        self.anyone = True

    def advance(
        self,
        tokens: Int[Tensor, "member batch pos"],
        answers: Int[Tensor, "member batch"],
        position: int,
    ) -> None:
        """One step for every member that is alive."""
        losses = self._member_losses(tokens, answers, position)
        # Each member's loss moves its own parameters only, so the sum's gradient is all of theirs.
        raw = torch.autograd.grad(losses.sum(), self.parameters)
        gradients, norms = clipped(raw, self.clips)
        good: Bool[Tensor, " member"] = losses.detach().isfinite() & norms.isfinite()
        self.step += 1
        self.failed = torch.where(self.alive & ~good, self.step, self.failed)
        self.alive = self.alive & good
        rates = per_member([c.rate(self.step - 1) for c in self.configs], self.parameters[0])
        self.optimizer.step(self.parameters, gradients, rates, self.alive)
        self.losses = losses.detach()

    def _member_losses(
        self, tokens: Tensor, answers: Tensor, position: int
    ) -> Float[Tensor, " member"]:
        def one(parameters: dict[str, Tensor], rows: Tensor, answer: Tensor) -> Tensor:
            lent = {f"model.{name}": value for name, value in parameters.items()}
            loss: Tensor = torch.func.functional_call(self.loss, lent, (rows, answer, position))
            return loss

        # The CPU's flash kernel cannot be mapped and would run member by member.
        plain = sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()
        with plain, computing_in(self.configs[0].precision, self.device):
            losses: Tensor = torch.func.vmap(one)(self.stacked, tokens, answers)
        return losses

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do; a device is asked only when ``look`` was called."""
        return self.step >= self.configs[0].steps or not self.anyone

    def look(self) -> None:
        """Fetch what the host wants to know: the mean loss, and whether anyone is left."""
        alive = self.alive.cpu()
        self.anyone = bool(alive.any())
        if self.anyone:
            self.shown_loss = float(self.losses.cpu()[alive].mean())

    def evaluate(self) -> None:
        """Measure the members alive whose turn it is, and stop those that have reached their aim."""
        due = [
            i for i, c in enumerate(self.configs) if self.step == 0 or self.step in c.evaluate_at
        ]
        if not due:
            return
        alive, losses = self.alive.tolist(), self.losses.tolist()
        self.write_back(due)
        for i in (i for i in due if alive[i]):
            config, loss = self.configs[i], losses[i]
            try:
                results = {n: accuracy(self.models[i], b) for n, b in self.evaluations[i].items()}
            except NoAnswerError:
                self.alive[i], self.failed[i] = False, self.step + 1
                continue
            self.records[i] += evaluation_records(self.step, loss, results, config)
            if _reached(results, config):
                self.alive[i] = False
        self.look()

    @torch.no_grad()
    def write_back(self, members: Sequence[int] | None = None) -> None:
        """Put members' parameters into their models."""
        for i in range(len(self.models)) if members is None else members:
            for name in self.names:
                self.models[i].get_parameter(name).copy_(self.stacked[name][i])

    def histories(self) -> list[MemberHistory]:
        """What became of each member."""
        failed = self.failed.tolist()
        return [
            MemberHistory(tuple(r), f or None) for r, f in zip(self.records, failed, strict=True)
        ]


def _reached(results: Mapping[str, Proportion], config: TrainConfig) -> bool:
    if config.stop_at is None:
        return False
    name, threshold = config.stop_at
    return results[name].value >= threshold


def _stacked_batches(
    sources: Sequence[Source], configs: Sequence[TrainConfig], device: torch.device
) -> Iterator[tuple[Int[Tensor, "member batch pos"], Int[Tensor, "member batch"], int]]:
    """Every member's batch of each step: the ones ``train`` would give it, drawn once where shared."""
    keys = [(id(source), config.seed) for source, config in zip(sources, configs, strict=True)]
    streams = {
        key: _batches(source, config, 0)
        for key, source, config in zip(keys, sources, configs, strict=True)
    }
    places = {key: place for place, key in enumerate(streams)}
    members = torch.tensor([places[key] for key in keys], device=device)
    for drawn in zip(*streams.values(), strict=True):
        shapes = {(batch.tokens.shape, batch.answer_position) for batch in drawn}
        require(
            len(shapes) == 1,
            "Members' samples have one length and answer position; got "
            f"{sorted((shape[1], position) for shape, position in shapes)}.",
        )
        tokens = torch.stack([batch.tokens for batch in drawn]).to(device)
        answers = torch.stack([batch.answer for batch in drawn]).to(device)
        yield tokens[members], answers[members], drawn[0].answer_position


def _check_members(
    models: Sequence[HookedTransformer],
    sources: Sequence[Source],
    configs: Sequence[TrainConfig],
    evaluations: Sequence[Mapping[str, TokenBatch]],
) -> None:
    counts = (len(models), len(sources), len(configs), len(evaluations))
    require(
        len(set(counts)) == 1 and counts[0] > 0,
        "An ensemble takes a source, a config and a mapping of evaluations for each model, and at least "
        f"one model; got {counts[0]} models, {counts[1]} sources, {counts[2]} configs and {counts[3]} "
        "evaluations.",
    )
    require(
        len({id(model) for model in models}) == len(models),
        "Members are trained in place, so each is an object of its own; some model is there twice. "
        "Clone it (mechft.models.build.clone).",
    )
    for name in SHARED_SETTINGS:
        values = list(dict.fromkeys(getattr(config, name) for config in configs))
        require(len(values) == 1, f"Members of an ensemble have one {name}; got {values}.")
    for model, config, measured in zip(models, configs, evaluations, strict=True):
        if config.stop_at is not None and config.stop_at[0] not in measured:
            raise unknown_name("evaluation to stop at", config.stop_at[0], measured)
        trained_parameters(model, config)
        require(
            config.micro_batches == 1,
            f"An ensemble computes whole batches; got micro_batches={config.micro_batches}. Leave it at 1.",
        )
        require(
            not has_hooks(model),
            "An ensemble runs no hooks, and a member has some attached. Remove them (reset_hooks()).",
        )
        features = unsupported_features(model)
        if features:
            raise ConfigError(
                "An ensemble runs the fused forward, which does not cover this model: "
                f"{', '.join(features)}. Its members cannot be trained."
            )
    first, *others = [_form(model) for model in models]
    for other in others:
        require(
            other == first,
            "Members of an ensemble have one shape, type, device and attention scale; got "
            f"{first} and {other}.",
        )


def _form(model: HookedTransformer) -> tuple[object, ...]:
    """What must be equal for one forward to serve two models."""
    weight = next(model.parameters())
    cfg = model.cfg
    return (model_config(model), weight.dtype, str(weight.device), cfg.eps, float(cfg.attn_scale))
