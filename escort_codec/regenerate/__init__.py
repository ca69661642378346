"""Regenerators: one prompt exemplar and one seed into one image.

Adding one is one file (or folder) and one line here.
"""

from __future__ import annotations

from escort_codec.regenerate.base import Job, Options, Regenerated, Regenerator, RGBImage, regenerators

__all__ = ["DEFAULT", "Job", "Options", "RGBImage", "Regenerated", "Regenerator", "regenerators"]

DEFAULT = "harmonic"
"""What runs where nothing else is asked for. It needs no weights and no GPU; it is a stand-in for a diffusion model."""


def _harmonic(options: Options) -> Regenerator:
    from escort_codec.regenerate.harmonic import Harmonic

    return Harmonic(options)


def _controlnet(options: Options) -> Regenerator:
    from escort_codec.regenerate.controlnet.regenerator import ControlNetRegenerator

    return ControlNetRegenerator(options)


regenerators.add("harmonic", _harmonic)
regenerators.add("controlnet", _controlnet)
