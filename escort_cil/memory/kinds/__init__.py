"""The kinds of exemplar: what can be remembered of an image. `keep` names them."""

from __future__ import annotations

from escort_cil.memory.kinds.base import ExemplarKind, is_regenerated, kinds
from escort_cil.memory.kinds.copies import Latent, Original, WebP
from escort_cil.memory.kinds.prompt import Prompt

kinds.add("original", Original)
kinds.add("webp", WebP)
kinds.add("latent", Latent)
kinds.add("prompt", Prompt)

__all__ = ["ExemplarKind", "Latent", "Original", "Prompt", "WebP", "is_regenerated", "kinds"]
