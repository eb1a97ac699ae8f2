"""Linear probes: is a fact still linearly readable in the residual stream, block by block?

Jain et al. (2024), App. D: a linear layer per block on the residual output at the position whose next
token is the answer, trained on fresh grammar data. They train it with AdamW for 4,000 steps. The
problem is convex; here L-BFGS fits all sites together, in about a second at tiny.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechft.analysis.activations import gather_activations
from mechft.analysis.result import Result
from mechft.errors import ConfigError, require, unknown_name
from mechft.models.hook_points import resid_post
from mechft.statistics import proportion
from mechft.tasks.batch import TokenBatch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


@dataclass(frozen=True)
class ProbeResult(Result):
    """Held-out accuracy of linear probes, with the accuracy of always naming the commonest class.

    Columns: model, block, hook, target, accuracy, ci_low, ci_high (95%, over held-out rows),
    majority (accuracy of the commonest training class on the same rows), n, classes.
    """


class ProbeFitter:
    """Gathers features and labels batch by batch, then fits one linear probe a site, all together.

    Args:
        l2: Weight of the squared norm of the probe's weights, on standardised features.
        max_iterations: Largest number of L-BFGS iterations.
    """

    def __init__(self, l2: float = 1e-4, max_iterations: int = 200) -> None:
        require(l2 >= 0, f"l2 is at least 0; got {l2}.")
        self.l2, self.max_iterations = l2, max_iterations
        self._features: list[Tensor] = []
        self._labels: list[Tensor] = []

    def update(
        self, features: Float[Tensor, "site batch width"], labels: Int[Tensor, " batch"]
    ) -> None:
        """Add a batch; ``labels`` serve every site."""
        require(
            features.shape[1] == len(labels),
            f"Features and labels need as many rows; got {features.shape[1]} and {len(labels)}.",
        )
        self._features.append(features.float())
        self._labels.append(labels)

    def result(self) -> LinearProbes:
        """Fit the probes.

        Raises:
            ConfigError: If there is no row, or only one class.

        Cost: about a second for 3 sites × 2,000 rows × width 128 on 2 cores.
        """
        require(bool(self._labels), "A probe needs rows to learn from; got none.")
        features, labels = torch.cat(self._features, 1), torch.cat(self._labels)
        classes, index = labels.unique(return_inverse=True)
        if len(classes) < 2:
            raise ConfigError(
                f"A probe needs at least two classes; every label is {int(classes[0])}. Choose "
                "another target or more varied texts."
            )
        mean, std = features.mean(1, keepdim=True), features.std(1, keepdim=True)
        std = std.clamp_min(1e-6)
        inputs = (features - mean) / std
        n_sites, _, width = inputs.shape
        weight = torch.zeros(n_sites, width, len(classes), requires_grad=True)
        bias = torch.zeros(n_sites, 1, len(classes), requires_grad=True)
        targets = index.expand(n_sites, -1)
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=self.max_iterations,
            tolerance_grad=1e-5,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = inputs @ weight + bias
            # A sum over sites: their problems are independent, so each reaches its own optimum.
            loss = n_sites * F.cross_entropy(logits.flatten(0, 1), targets.flatten())
            loss = loss + self.l2 * weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        with torch.enable_grad():
            optimizer.step(closure)  # type: ignore[no-untyped-call]
        commonest = int(torch.bincount(index).argmax())
        return LinearProbes(
            weight.detach(), bias.detach(), mean, std, classes, int(classes[commonest])
        )


@dataclass(frozen=True)
class LinearProbes:
    """Fitted probes, one a site.

    Attributes:
        weight: Float["site width class"], for standardised features.
        bias: Float["site 1 class"].
        mean, std: Standardisation, Float["site 1 width"].
        classes: The label each class stands for. Int["class"].
        majority: The commonest label of the training rows.
    """

    weight: Float[Tensor, "site width class"]
    bias: Float[Tensor, "site 1 class"]
    mean: Float[Tensor, "site 1 width"]
    std: Float[Tensor, "site 1 width"]
    classes: Int[Tensor, " class"]
    majority: int

    def predict(self, features: Float[Tensor, "site batch width"]) -> Int[Tensor, "site batch"]:
        """The label each site's probe reads off."""
        logits = ((features.float() - self.mean) / self.std) @ self.weight + self.bias
        return self.classes[logits.argmax(-1)]


def probe(
    models: Mapping[str, HookedTransformer],
    train: TokenBatch,
    test: TokenBatch,
    target: str,
    *,
    hook_names: Sequence[str] | None = None,
    l2: float = 1e-4,
) -> ProbeResult:
    """Probe every model at every site for one label of the batch.

    Args:
        models: Models by the name they get in the frame.
        train: Rows to fit on.
        test: Held-out rows to score on; draw them from another stream than ``train``.
        target: Name of a label in both batches, such as "C(a)".
        hook_names: Sites; by default the residual stream after each block.
        l2: As in ``ProbeFitter``.

    Raises:
        UnknownNameError: If the batches lack the label or a model the hook point.
        ConfigError: If the labels have one class only.

    Source: Jain et al. (2024), Fig. 8 and App. D.

    Cost: per model, one hooked forward over both batches and about a second of fitting.
    """
    for batch in (train, test):
        if target not in batch.labels:
            raise unknown_name("label", target, batch.labels)
    rows = []
    for name, model in models.items():
        names = list(hook_names or (resid_post(b) for b in range(int(model.cfg.n_layers))))
        fitter = ProbeFitter(l2)
        fitter.update(_stack(gather_activations(model, train, names)), train.labels[target])
        probes = fitter.result()
        truth = test.labels[target]
        right = probes.predict(_stack(gather_activations(model, test, names))) == truth
        majority = float((truth == probes.majority).double().mean())
        for site, hook in enumerate(names):
            share = proportion(int(right[site].sum()), len(truth))
            rows.append(
                {
                    "model": name,
                    "block": _block_of(hook),
                    "hook": hook,
                    "target": target,
                    "accuracy": share.value,
                    "ci_low": share.low,
                    "ci_high": share.high,
                    "majority": majority,
                    "n": share.n,
                    "classes": len(probes.classes),
                }
            )
    import pandas as pd

    return ProbeResult(pd.DataFrame(rows))


def _stack(activations: Mapping[str, Tensor]) -> Float[Tensor, "site batch width"]:
    widths = {name: value.shape[1] for name, value in activations.items()}
    require(
        len(set(widths.values())) == 1,
        f"Sites probed together have one width; got {widths}. Probe them in separate calls.",
    )
    return torch.stack(list(activations.values()))


def _block_of(hook: str) -> int:
    parts = hook.split(".")
    return int(parts[1]) if parts[0] == "blocks" else -1
