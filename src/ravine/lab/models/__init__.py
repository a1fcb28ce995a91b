"""Models to train: a transformer from scratch, small models of images, and the user's own."""

from __future__ import annotations

from ravine.lab.models.cache import KeyValueCache
from ravine.lab.models.describe import describe
from ravine.lab.models.generation import generate
from ravine.lab.models.images import CNN, IMAGE_MODELS, MLP, ViT
from ravine.lab.models.source import Built, ModelSource, check_loss, parse
from ravine.lab.models.transformer import SIZES, VOCABULARY, Architecture, Transformer

__all__ = [
    "Architecture",
    "Transformer",
    "SIZES",
    "VOCABULARY",
    "KeyValueCache",
    "generate",
    "MLP",
    "CNN",
    "ViT",
    "IMAGE_MODELS",
    "ModelSource",
    "Built",
    "parse",
    "check_loss",
    "describe",
]
