"""Building, saving, loading and running HookedTransformers; the only place that imports TransformerLens."""
