"""The paper's claims about the PCFG setup, each a function of the tables with a rule fixed beforehand.

Jain et al. (2024), Sec. 5 and App. E; PAPER.md numbers them. A claim is judged on means over seeds and, where
it compares, on differences paired by seed; it is unclear where a run was too short (``quick``), an interval
reaches the threshold, or what it speaks of did not happen. Test strings without the correlation have two
different answers, so that a right one tells which of the two was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mechft.experiments.checks import Check
from mechft.experiments.pcfg.claims.bases import base_claims
from mechft.experiments.pcfg.claims.behaviour import (
    behaviour_claims,
    indexer_claims,
    mixing_claims,
)
from mechft.experiments.pcfg.claims.inside import (
    inhibitor_claims,
    jailbreak_claims,
    probing_claims,
    pruning_claims,
)
from mechft.experiments.pcfg.claims.revival import randft_claims, reversal_claims
from mechft.experiments.pcfg.result import StudyResult

CLAIMS: dict[str, tuple[Callable[[StudyResult], list[Check]], ...]] = {
    "finetuning_final": (behaviour_claims,),
    "indexer_final": (indexer_claims,),
    "pruning": (pruning_claims, inhibitor_claims),
    "probing": (probing_claims,),
    "reversal": (reversal_claims,),
    "mixing_final": (mixing_claims,),
    "jailbreak": (jailbreak_claims,),
    "randft_final": (randft_claims,),
}
"""Which claims each table bears on."""


def study_checks(result: StudyResult) -> tuple[Check, ...]:
    """Every claim that the result's tables bear on, with its verdict.

    None is judged in a quick run, nor where base models lack what fine-tuning is to hide.
    """
    bases = base_claims(result)
    checks = [
        check
        for table, claims in CLAIMS.items()
        if table in result.tables
        for claim in claims
        for check in claim(result)
    ]
    if result.config.quick or not all(check.holds for check in bases):
        checks = [replace(check, holds=None) for check in checks]
    if result.config.quick:
        bases = [replace(check, holds=None) for check in bases]
    return (*bases, *checks)
