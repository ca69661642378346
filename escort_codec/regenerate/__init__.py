"""Regenerators: each turns a prompt exemplar and a seed into an image. They do not use files.

Adding one is one file (or folder) and one line here.
"""

from __future__ import annotations

from importlib import import_module

from escort_codec.regenerate.base import (
    Job,
    JobResult,
    Regenerator,
    RGBImage,
    image_digest,
    make_regenerator,
    regenerators,
)

__all__ = ["DEFAULT", "Job", "JobResult", "RGBImage", "Regenerator", "image_digest", "make_regenerator", "regenerators"]

DEFAULT = "harmonic"
"""The default regenerator: a stand-in for a diffusion model that needs no weights and no GPU."""

_HERE = "escort_codec.regenerate"
regenerators.add("harmonic", lambda: import_module(f"{_HERE}.harmonic").Harmonic)
regenerators.add("latent", lambda: import_module(f"{_HERE}.latent").LearnedPictures)
regenerators.add("controlnet", lambda: import_module(f"{_HERE}.controlnet.regenerator").ControlNetRegenerator)
