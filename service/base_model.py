"""The base model that the settings name, as every process of the service loads it.

Knows which settings it takes. Does not know what it is loaded for.
"""

from __future__ import annotations

import logging

import torch

from adapters.model import BaseModel, ModelConfig, load
from service.settings import Settings

log = logging.getLogger(__name__)


def load_model(settings: Settings) -> BaseModel:
    """Ready to run, on as many processor threads as the settings allow. Raises `ModelError`."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    config = ModelConfig(settings.model or "", settings.device, settings.dtype)
    return load(config, settings.folder / "models", log.info)
