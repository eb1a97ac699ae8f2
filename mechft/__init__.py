"""mechft: what did fine-tuning do to this model?

Models with a known history, fine-tuned; and what changed, what only looks changed, what comes back.
Everything public is listed here and loaded when first used, so that importing mechft costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechft.analysis.ablation import ablate as ablate
    from mechft.analysis.ablation import ablation_sweep as ablation_sweep
    from mechft.analysis.generation_score import generation_score as generation_score
    from mechft.analysis.interventions.sites import Site as Site
    from mechft.analysis.revival import revival as revival
    from mechft.analysis.text_loss import text_loss as text_loss
    from mechft.analysis.units.editing import grafted as grafted
    from mechft.analysis.units.editing import pruned as pruned
    from mechft.analysis.units.mask_files import load_mask as load_mask
    from mechft.analysis.units.mask_files import save_mask as save_mask
    from mechft.analysis.units.scores import gradient_times_weight as gradient_times_weight
    from mechft.analysis.units.scores import random_scores as random_scores
    from mechft.analysis.untaught import untaught_return as untaught_return
    from mechft.models.build import ModelConfig as ModelConfig
    from mechft.models.bundled import manifest as manifest
    from mechft.models.channels import channel as channel
    from mechft.models.channels import residual_labels as residual_labels
    from mechft.models.compiled import CompiledProgram as CompiledProgram
    from mechft.models.fused import fused_logits as fused_logits
    from mechft.models.generation import generate as generate
    from mechft.models.llama import export_llama as export_llama
    from mechft.models.llama import import_llama as import_llama
    from mechft.models.opening import open_model as open_model
    from mechft.models.tracr import compile_program as compile_program
    from mechft.plots import plot as plot
    from mechft.plots.export import save_figure as save_figure
    from mechft.randomness import generator as generator
    from mechft.report.comparison import compare as compare
    from mechft.shortcuts.ablation import ablate_heads as ablate_heads
    from mechft.shortcuts.ablation import compare_ablations as compare_ablations
    from mechft.shortcuts.activations import diff_activations as diff_activations
    from mechft.shortcuts.activations import diff_outputs as diff_outputs
    from mechft.shortcuts.activations import logit_lens as logit_lens
    from mechft.shortcuts.attention import attention_maps as attention_maps
    from mechft.shortcuts.attention import diff_attention as diff_attention
    from mechft.shortcuts.diagnosis import diagnose as diagnose
    from mechft.shortcuts.neurons import neuron_maps as neuron_maps
    from mechft.shortcuts.patching import patch_across as patch_across
    from mechft.shortcuts.probing import description_length as description_length
    from mechft.shortcuts.probing import erase as erase
    from mechft.shortcuts.probing import probe as probe
    from mechft.shortcuts.probing import probe_transfer as probe_transfer
    from mechft.shortcuts.pruning import learn_mask as learn_mask
    from mechft.shortcuts.pruning import predicted_answers as predicted_answers
    from mechft.shortcuts.pruning import prune_curve as prune_curve
    from mechft.shortcuts.weights import diff_circuits as diff_circuits
    from mechft.shortcuts.weights import diff_weights as diff_weights
    from mechft.shortcuts.weights import interpolate as interpolate
    from mechft.shortcuts.weights import low_rank as low_rank
    from mechft.shortcuts.weights import spectrum as spectrum
    from mechft.tasks.contrast import Contrast as Contrast
    from mechft.tasks.correlation import Correlation as Correlation
    from mechft.tasks.own import OwnTask as OwnTask
    from mechft.tasks.pcfg import PCFGTask as PCFGTask
    from mechft.tasks.pcfg_config import PCFGConfig as PCFGConfig
    from mechft.tasks.program_config import ProgramConfig as ProgramConfig
    from mechft.tasks.programs import ProgramTask as ProgramTask
    from mechft.tasks.prompts import read_prompts as read_prompts
    from mechft.tasks.protocol import check_task as check_task
    from mechft.tasks.stories.decisions import decision_rows as decision_rows
    from mechft.tasks.stories.layout import story_prompts as story_prompts
    from mechft.tasks.stories.procedural.generator import ProceduralStories as ProceduralStories
    from mechft.tasks.stories.procedural.oracle import read_features as read_features
    from mechft.tasks.stories.protocols import StoryProtocol as StoryProtocol
    from mechft.tasks.stories.record import StoryRecord as StoryRecord
    from mechft.tasks.stories.rows import story_rows as story_rows
    from mechft.tasks.stories.sources import read_stories as read_stories
    from mechft.tasks.stories.tokenizer import StoryTokenizer as StoryTokenizer
    from mechft.tasks.task import register_task as register_task
    from mechft.training.callbacks import Callback as Callback
    from mechft.training.compiled import compile_task as compile_task
    from mechft.training.controls import scratch as scratch
    from mechft.training.controls import scratch_finetune as scratch_finetune
    from mechft.training.densify import densify as densify
    from mechft.training.evaluation import accuracy as accuracy
    from mechft.training.evaluation import predictions as predictions
    from mechft.training.many import finetune_many as finetune_many
    from mechft.training.many import reverse_finetune_many as reverse_finetune_many
    from mechft.training.recipes import finetune as finetune
    from mechft.training.recipes import pretrain as pretrain
    from mechft.training.recipes import reverse_finetune as reverse_finetune
    from mechft.training.rows import finetune_rows as finetune_rows
    from mechft.training.stories import finetune_stories as finetune_stories
    from mechft.training.tracking import TableLog as TableLog
    from mechft.training.tracking import WandbLog as WandbLog
    from mechft.training.trained import Trained as Trained
    from mechft.training.trained import load as load
    from mechft.training.trained import save as save

__version__ = "0.1.0"

_PUBLIC = {
    # tasks: what models are asked
    "PCFGConfig": "tasks.pcfg_config",
    "PCFGTask": "tasks.pcfg",
    "ProgramConfig": "tasks.program_config",
    "ProgramTask": "tasks.programs",
    "Correlation": "tasks.correlation",
    "Contrast": "tasks.contrast",
    "OwnTask": "tasks.own",
    "register_task": "tasks.task",
    "check_task": "tasks.protocol",
    # stories: what they are, made here or read; deletion of a feature
    "StoryRecord": "tasks.stories.record",
    "ProceduralStories": "tasks.stories.procedural.generator",
    "read_stories": "tasks.stories.sources",
    "StoryProtocol": "tasks.stories.protocols",
    "read_features": "tasks.stories.procedural.oracle",
    "StoryTokenizer": "tasks.stories.tokenizer",
    "story_prompts": "tasks.stories.layout",
    "story_rows": "tasks.stories.rows",
    "decision_rows": "tasks.stories.decisions",
    # models: loading, saving, anybody's; the fast forward
    "load": "training.trained",
    "save": "training.trained",
    "open_model": "models.opening",
    "read_prompts": "tasks.prompts",
    "ModelConfig": "models.build",
    "manifest": "models.bundled",
    "fused_logits": "models.fused",
    "generate": "models.generation",
    "export_llama": "models.llama",
    "import_llama": "models.llama",
    # compiled programs, whose every channel has a name
    "compile_program": "models.tracr",
    "CompiledProgram": "models.compiled",
    "residual_labels": "models.channels",
    "channel": "models.channels",
    "generator": "randomness",
    # training: recipes and measuring
    "Trained": "training.trained",
    "pretrain": "training.recipes",
    "compile_task": "training.compiled",
    "densify": "training.densify",
    "finetune": "training.recipes",
    "finetune_many": "training.many",
    "reverse_finetune": "training.recipes",
    "reverse_finetune_many": "training.many",
    "finetune_rows": "training.rows",
    "finetune_stories": "training.stories",
    "scratch": "training.controls",
    "scratch_finetune": "training.controls",
    "accuracy": "training.evaluation",
    "predictions": "training.evaluation",
    "Callback": "training.callbacks",
    "TableLog": "training.tracking",
    "WandbLog": "training.tracking",
    # any two models on your own data: every analysis that applies, and a report
    "compare": "report.comparison",
    # analysis: one-liners on trained models (the plain forms are in mechft.analysis)
    # what is still there?
    "probe": "shortcuts.probing",
    "description_length": "shortcuts.probing",
    "probe_transfer": "shortcuts.probing",
    "erase": "shortcuts.probing",
    "prune_curve": "shortcuts.pruning",
    "gradient_times_weight": "analysis.units.scores",
    "random_scores": "analysis.units.scores",
    "pruned": "analysis.units.editing",
    "grafted": "analysis.units.editing",
    "learn_mask": "shortcuts.pruning",
    "predicted_answers": "shortcuts.pruning",
    "save_mask": "analysis.units.mask_files",
    "load_mask": "analysis.units.mask_files",
    # what does it rest on, and where did it change?
    "ablate": "analysis.ablation",
    "ablate_heads": "shortcuts.ablation",
    "ablation_sweep": "analysis.ablation",
    "compare_ablations": "shortcuts.ablation",
    "patch_across": "shortcuts.patching",
    "Site": "analysis.interventions.sites",
    # what changed?
    "diff_weights": "shortcuts.weights",
    "diff_circuits": "shortcuts.weights",
    "spectrum": "shortcuts.weights",
    "interpolate": "shortcuts.weights",
    "low_rank": "shortcuts.weights",
    "diff_activations": "shortcuts.activations",
    "diff_outputs": "shortcuts.activations",
    "logit_lens": "shortcuts.activations",
    "text_loss": "analysis.text_loss",
    "generation_score": "analysis.generation_score",
    "diff_attention": "shortcuts.attention",
    "attention_maps": "shortcuts.attention",
    "neuron_maps": "shortcuts.neurons",
    # what comes back, and the verdict
    "revival": "analysis.revival",
    "untaught_return": "analysis.untaught",
    "diagnose": "shortcuts.diagnosis",
    # figures
    "plot": "plots",
    "save_figure": "plots.export",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mechft' has no {name!r}; it has {', '.join(_PUBLIC)}.")
    value = getattr(import_module(f"mechft.{_PUBLIC[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
