"""Probes of all sites against scikit-learn and the paper's AdamW: ``python -m tests.benchmarks.probing``.

On the same features, standardised, and the same labels. "fixed" fits every site at one penalty, as
scikit-learn does at the same; "selected" chooses each site's penalty from the default grid on held-out
rows and fits again. "paper_adamw" is this package's: all sites at once, gradients written out, outputs for
the labels that occur; "plain_adamw" is the usual loop, a ``torch.nn.Linear`` to the vocabulary a site. Prints
JSON; forwards are not part of it.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mechft.analysis.activations import gather_activations
from mechft.analysis.probes.adamw import PAPER_STEPS
from mechft.analysis.probes.fitting import ProbeFitter
from mechft.analysis.probes.linear_probes import LinearProbes
from mechft.models.hook_points import resid_post
from mechft.randomness import generator
from mechft.training.trained import load
from tests.benchmarks.timing import alternate, median_ratio, milliseconds

ROWS, TEST_ROWS, L2 = 4000, 2000, 1e-4
VOCABULARY = 41  # of the tiny task: what the paper's probes have as outputs
PLAIN_SHARE = 20  # the plain loop is timed on a twentieth of its steps, and its seconds multiplied
Case = tuple[dict[str, Tensor], Tensor, dict[str, Tensor], Tensor]


def tiny() -> Case:
    """The bundled model's residual stream after each of its 3 blocks, and the count of a."""
    trained = load("pcfg-tiny-low")
    sites = [resid_post(block) for block in range(3)]
    found: list[Any] = []
    for size, part in ((ROWS, "train"), (TEST_ROWS, "test")):
        batch = trained.task.query("C", "a").sample(size, generator(0, "benchmark", part))
        found += [gather_activations(trained, batch, sites), batch.labels["C(a)"]]
    return found[0], found[1], found[2], found[3]


def synthetic() -> Case:
    """6 sites of width 192: a label of 10 classes, readable more and more, in correlated features."""
    draws = generator(0, "benchmark", "synthetic")
    n, width, classes = ROWS + TEST_ROWS, 192, 10
    labels = torch.randint(classes, (n,), generator=draws)
    mixing = torch.randn(width, width, generator=draws) * torch.logspace(0, -2, width)[:, None]
    sites = {}
    for site in range(6):
        centres = torch.randn(classes, width, generator=draws) * 0.1 * (site + 1)
        noise = torch.randn(n, width, generator=draws)
        sites[f"site {site}"] = (noise + centres[labels]) @ mixing
    train, test = (
        {site: value[rows] for site, value in sites.items()}
        for rows in (slice(0, ROWS), slice(ROWS, None))
    )
    return train, labels[:ROWS], test, labels[ROWS:]


def ours(features: dict[str, Tensor], labels: Tensor, **options: Any) -> LinearProbes:
    """Probes of all sites."""
    fitter = ProbeFitter(**options)
    fitter.update(features, labels)
    return fitter.result()


def theirs(features: dict[str, Tensor], labels: Tensor) -> dict[str, Any]:
    """scikit-learn's, site by site, at the same penalty and its own tolerance."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        for site, value in features.items():
            inputs = (value - value.mean(0)) / value.std(0, unbiased=False)
            model = LogisticRegression(C=1 / (2 * L2 * len(labels)), max_iter=20_000)
            found[site] = model.fit(inputs.numpy(), labels.numpy())
    return found


def plain_adamw(features: dict[str, Tensor], labels: Tensor) -> None:
    """The usual training loop, site by site, for a twentieth of the paper's steps."""
    draws = generator(0, "benchmark", "plain")
    for value in features.values():
        inputs = (value - value.mean(0)) / value.std(0)
        layer = torch.nn.Linear(value.shape[1], VOCABULARY)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
        for _ in range(PAPER_STEPS // PLAIN_SHARE):
            rows = torch.randint(len(labels), (96,), generator=draws)
            loss = F.cross_entropy(layer(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def compare(case: Case, rounds: int) -> dict[str, Any]:
    """Accuracies, penalised losses, seconds and ratios of one case."""
    train, labels, test, truth = case
    fits: dict[str, Callable[[], Any]] = {
        "fixed": lambda: ours(train, labels, l2=L2),
        "selected": lambda: ours(train, labels),
        "scikit_learn": lambda: theirs(train, labels),
        "paper_adamw": lambda: ours(train, labels, optimizer="paper"),
    }
    accuracy: dict[str, list[float]] = {}
    loss: dict[str, list[float]] = {}
    for name, fit in fits.items():
        found = fit()
        accuracy[name], loss[name] = [], []
        for site, value in train.items():
            mean, std = value.mean(0), value.std(0, unbiased=False)
            if name == "scikit_learn":
                weight = torch.from_numpy(found[site].coef_).T.double()
                bias = torch.from_numpy(found[site].intercept_).double()
                classes = torch.from_numpy(found[site].classes_)
            else:
                weight, bias = found[site].weight.double(), found[site].bias.double()
                classes = found.classes
            inputs = ((test[site] - mean) / std).double()
            hit = classes[(inputs @ weight + bias).argmax(1)] == truth
            accuracy[name].append(round(100 * float(hit.double().mean()), 2))
            fitted = ((value - mean) / std).double() @ weight + bias
            mistake = F.cross_entropy(fitted, torch.searchsorted(classes, labels))
            loss[name].append(round(float(mistake + L2 * weight.square().sum()), 6))
    seconds = alternate({**fits, "plain_adamw": lambda: plain_adamw(train, labels)}, rounds)
    seconds["plain_adamw"] = [PLAIN_SHARE * value for value in seconds["plain_adamw"]]
    return {
        "accuracy_percent_by_site": accuracy,
        "penalised_loss_by_site": {name: loss[name] for name in ("fixed", "scikit_learn")},
        "median_ms": {name: milliseconds(values) for name, values in seconds.items()},
        **{
            f"speedup_over_{other}": {
                name: round(median_ratio(seconds[other], seconds[name]), 2)
                for name in ("fixed", "selected")
            }
            for other in ("scikit_learn", "paper_adamw", "plain_adamw")
        },
    }


def measure(rounds: int) -> dict[str, Any]:
    """Both cases."""
    return {
        "threads": torch.get_num_threads(),
        "l2": L2,
        "rounds": rounds,
        "tiny_3_sites": compare(tiny(), rounds),
        "synthetic_6_sites": compare(synthetic(), rounds),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    print(json.dumps(measure(parser.parse_args().rounds), indent=1))


if __name__ == "__main__":
    main()
