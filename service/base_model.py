"""The models that the settings name, as every process of the service loads them: the base, and what judges toxicity.

Knows which settings they take. Does not know what they are loaded for.
"""

from __future__ import annotations

import logging

import torch

from adapters.model import BaseModel, ModelConfig, load
from feedback import toxicity
from feedback.harm import Harm
from service.settings import Settings

log = logging.getLogger(__name__)


def load_model(settings: Settings) -> BaseModel:
    """Ready to run, on as many processor threads as the settings allow. Raises `ModelError`."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    config = ModelConfig(settings.model or "", settings.device, settings.dtype)
    return load(config, settings.folder / "models", log.info)


def load_harm(settings: Settings) -> Harm:
    """What keeps harm out, with the classifier that the settings name. Raises `ClassifierError`, a `ModelError`."""
    return Harm(toxicity.load(settings.toxicity_model, settings.folder / "models", log.info))
