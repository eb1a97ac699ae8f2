"""One technique a file: (model or models, data, metric or target) in, a frozen result out.

What is still there?        probing, description_length, probe_transfer, erasure; pruning, predicted_answers,
                            learned_masks
What does it rest on?       ablation, ablation_sets, ablation_comparison; attention, attention_maps
What changed, and where?    weight_diff, spectrum, circuits, interpolation, low_rank; activation_diff,
                            logit_lens, output_diff; patching
What comes back?            revival; votes and diagnosis put it all together

All of them work through ``result``, ``batches``, ``activations`` and ``metrics``; the folders hold what the
techniques are made of.
"""
