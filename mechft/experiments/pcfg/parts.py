"""What each part of the study consists of: jobs, with what the tables call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from mechft.experiments.pcfg.config import StudyScale
from mechft.experiments.pcfg.jobs import (
    COUNTER,
    INDEXER,
    ask_job,
    base_job,
    finetune_job,
    probe_job,
    prune_job,
    reverse_job,
)
from mechft.experiments.store.job import Job
from mechft.experiments.sweep.pieces import Piece
from mechft.tasks.contrast import Contrast


def _base(job: Job, variant: str = "") -> Piece:
    """What a base model can do, as evaluated while it was pretrained."""
    settings = job.settings
    labels = {
        "prior": settings["prior"],
        "variant": variant,
        "pretraining_steps": settings["steps"],
        "seed": settings["seed"],
    }
    return Piece("pretraining", "history", job, labels)


def finetuning(
    scale: StudyScale, seed: int, contrast: Contrast = COUNTER, table: str = "finetuning"
) -> Iterator[Piece]:
    """The grid of fine-tunings: priors × learning rates × C_Tr (Figs. 5 and 6, Tables 5 and 7)."""
    for prior in scale.priors:
        base = base_job(scale, prior, seed)
        yield _base(base)
        for rate, c_tr in product(scale.rate, scale.correlations):
            job = finetune_job(scale, base, rate, c_tr, seed, contrast)
            labels = {"prior": prior, "rate": rate, "c_tr": c_tr, "seed": seed}
            yield Piece(table, "history", job, labels)
            yield Piece(f"{table}_final", "final", job, labels)


def indexer(scale: StudyScale, seed: int) -> Iterator[Piece]:
    """The same grid for the Indexer: position of the n-th b, q = 1 (Table 7)."""
    return finetuning(scale, seed, INDEXER, "indexer")


def _looked_into(
    scale: StudyScale, seed: int, rates: tuple[str, ...]
) -> Iterator[tuple[Job, dict[str, Any]]]:
    for prior, rate, c_tr in product(scale.priors, rates, scale.looked_into):
        base = base_job(scale, prior, seed)
        labels = {"prior": prior, "rate": rate, "c_tr": c_tr, "seed": seed}
        yield finetune_job(scale, base, rate, c_tr, seed), labels


def pruning(scale: StudyScale, seed: int) -> Iterator[Piece]:
    """Pruning curves of fine-tuned models (Figs. 7, 86-89)."""
    for job, labels in _looked_into(scale, seed, tuple(scale.rate)):
        yield Piece("pruning", "curve", prune_job(scale, job, seed), labels)


def probing(scale: StudyScale, seed: int) -> Iterator[Piece]:
    """Probes for the count of a: base, fine-tuned, never asked for a, never trained (Fig. 8)."""
    for prior in (*scale.priors, "never_a"):
        base = base_job(scale, prior, seed)
        yield _base(base)
        job = probe_job(scale, base, seed)
        labels = {"prior": prior, "rate": "", "c_tr": float("nan"), "seed": seed}
        yield Piece("probing", "probes", job, {**labels, "stage": "base"})
    untrained = probe_job(scale, base_job(scale, scale.priors[0], seed), seed, untrained=True)
    yield Piece("probing", "probes", untrained, {**labels, "prior": "untrained", "stage": "base"})
    for job, labels in _looked_into(scale, seed, scale.probed_rates):
        probed = probe_job(scale, job, seed)
        yield Piece("probing", "probes", probed, {**labels, "stage": "fine-tuned"})


def _smaller(scale: StudyScale, rate: str) -> list[str]:
    """The rates reFT is done at after fine-tuning at one: the smaller ones."""
    return [other for other in scale.reverse_rates if scale.rate[other] < scale.rate[rate]]


def reversal(scale: StudyScale, seed: int) -> Iterator[Piece]:
    """ReFT of models fine-tuned with C_Tr = 1, Scr.+FT and Scr. (Fig. 9)."""
    for job, labels in _looked_into(scale, seed, scale.reverse_starts):
        if labels["c_tr"] != 1:
            continue
        for rate in _smaller(scale, labels["rate"]):
            back = reverse_job(scale, job, scale.rate[rate], seed)
            yield Piece(
                "reversal", "history", back, {**labels, "kind": "reFT", "reverse_rate": rate}
            )
    yield from _controls(scale, seed)


def _controls(scale: StudyScale, seed: int) -> Iterator[Piece]:
    none = {"prior": "never_a", "rate": "", "c_tr": float("nan"), "seed": seed}
    never = base_job(scale, "never_a", seed)
    yield _base(never)
    for rate in scale.reverse_rates:
        job = reverse_job(scale, never, scale.rate[rate], seed)
        yield Piece("reversal", "history", job, {**none, "kind": "Scr.+FT", "reverse_rate": rate})
    scr = reverse_job(scale, never, scale.scratch_rate, seed, from_nothing=True)
    yield Piece(
        "reversal",
        "history",
        scr,
        {**none, "prior": "none", "kind": "Scr.", "reverse_rate": "pretraining"},
    )


def mixing(scale: StudyScale, seed: int) -> Iterator[Piece]:
    """Fine-tuning with pretraining data mixed in: behaviour at every rate, pruning at M (Figs. 18-23).

    Low and high prior, C_Tr = 1.
    """
    for prior, share in product((scale.priors[0], scale.priors[-1]), scale.mixing_shares):
        base = base_job(scale, prior, seed)
        yield _base(base)
        for rate in scale.rate:
            job = finetune_job(scale, base, rate, 1.0, seed, pretraining_share=share)
            labels = {"prior": prior, "rate": rate, "c_tr": 1.0, "share": share, "seed": seed}
            yield Piece("mixing", "history", job, labels)
            yield Piece("mixing_final", "final", job, labels)
            if rate == "M":
                curve = prune_job(scale, job, seed)
                yield Piece("mixing_pruning", "curve", curve, labels)


def jailbreak(scale: StudyScale, seed: int) -> Iterator[Piece]:
    """Three tokens that ask for counting; only one is fine-tuned on (Figs. 24-25)."""
    for prior in (scale.priors[0], scale.priors[-1]):
        base = base_job(scale, prior, seed, jailbreak=True)
        yield _base(base, "jailbreak")
        labels = {"prior": prior, "rate": "", "c_tr": float("nan"), "seed": seed}
        asked = ask_job(scale, base, seed)
        yield Piece("jailbreak", "answers", asked, {**labels, "stage": "base"})
        yield Piece("jailbreak_probing", "probes", asked, {**labels, "stage": "base"})
        for rate, c_tr in product(scale.probed_rates, scale.looked_into):
            tuned = finetune_job(scale, base, rate, c_tr, seed)
            labels = {"prior": prior, "rate": rate, "c_tr": c_tr, "seed": seed}
            asked = ask_job(scale, tuned, seed)
            yield Piece("jailbreak", "answers", asked, {**labels, "stage": "fine-tuned"})
            yield Piece("jailbreak_probing", "probes", asked, {**labels, "stage": "fine-tuned"})


def randft(scale: StudyScale, seed: int) -> Iterator[Piece]:
    """Taught the count of b as the answer for a, then fine-tuned back (Figs. 28-30)."""
    yield from reversal(scale, seed)  # what it is compared with
    for prior, rate in product(scale.priors, scale.reverse_starts):
        base = base_job(scale, prior, seed)
        yield _base(base)
        job = finetune_job(scale, base, rate, None, seed, randomised=True)
        labels = {"prior": prior, "rate": rate, "c_tr": float("nan"), "seed": seed}
        yield Piece("randft", "history", job, labels)
        yield Piece("randft_final", "final", job, labels)
        for back in _smaller(scale, rate):
            reverse = reverse_job(scale, job, scale.rate[back], seed)
            yield Piece(
                "reversal", "history", reverse, {**labels, "kind": "randFT", "reverse_rate": back}
            )


def steps(scale: StudyScale, seed: int) -> Iterator[Piece]:
    """Fine-tuning after less pretraining, at every rate, C_Tr = 1 (Figs. 60-78)."""
    for prior in scale.priors:
        whole = dict(scale.pretraining_steps)[prior]
        for pretrained in (*scale.other_steps, whole):
            base = base_job(scale, prior, seed, steps=pretrained)
            yield _base(base, "" if pretrained == whole else "shorter")
            for rate in scale.rate:
                job = finetune_job(scale, base, rate, 1.0, seed)
                labels = {
                    "prior": prior,
                    "rate": rate,
                    "c_tr": 1.0,
                    "pretraining_steps": pretrained,
                    "seed": seed,
                }
                yield Piece("steps", "history", job, labels)
                yield Piece("steps_final", "final", job, labels)


PARTS: dict[str, Callable[[StudyScale, int], Iterator[Piece]]] = {
    "finetuning": finetuning,
    "pruning": pruning,
    "probing": probing,
    "reversal": reversal,
    "mixing": mixing,
    "jailbreak": jailbreak,
    "randft": randft,
    "indexer": indexer,
    "steps": steps,
}
"""Parts by the names that ``mechft.experiments.pcfg.config`` uses."""


def pieces_of(parts: tuple[str, ...], scale: StudyScale, seeds: tuple[int, ...]) -> list[Piece]:
    """All pieces of some parts for some seeds; what several parts have in common once."""
    found: dict[tuple[str, str, str], Piece] = {}
    for seed in seeds:
        for part in parts:
            for piece in PARTS[part](scale, seed):
                found.setdefault((piece.table, piece.file, piece.job.key), piece)
    return list(found.values())
