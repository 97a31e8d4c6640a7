"""Raw NLI logits to the probabilities a student learns. Nothing here runs the teacher: the logits are kept."""

from zsd.soft_labels.fit import METHODS, fit_recipe
from zsd.soft_labels.probabilities import soft_labels
from zsd.soft_labels.recipe import Recipe

__all__ = ["METHODS", "Recipe", "fit_recipe", "soft_labels"]
