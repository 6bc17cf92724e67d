"""The demo's small world, made from a seed; its parts: topics, phrases, and how they are put together."""

from smidgen.assets.world.assemble import TRUTHS, World, jaccard, make_world
from smidgen.assets.world.phrases import is_harmful, is_refusal, topic_of

__all__ = ["TRUTHS", "World", "is_harmful", "is_refusal", "jaccard", "make_world", "topic_of"]
