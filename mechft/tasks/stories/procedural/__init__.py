"""Procedural stories: a generator whose labels are true by construction, and an oracle that reads them."""

from mechft.tasks.stories.procedural.generator import ProceduralStories
from mechft.tasks.stories.procedural.oracle import has_feature, read_features

__all__ = ["ProceduralStories", "has_feature", "read_features"]
