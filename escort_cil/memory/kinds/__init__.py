"""The kinds of exemplar: what can be remembered of an image. One file each; `keep` names them."""

from __future__ import annotations

from escort_cil.memory.kinds.base import ExemplarKind, is_regenerated, kinds
from escort_cil.memory.kinds.latent import Latent
from escort_cil.memory.kinds.original import Original
from escort_cil.memory.kinds.prompt import Prompt
from escort_cil.memory.kinds.webp import WebP

kinds.add("original", Original)
kinds.add("webp", WebP)
kinds.add("latent", Latent)
kinds.add("prompt", Prompt)

__all__ = ["ExemplarKind", "Latent", "Original", "Prompt", "WebP", "is_regenerated", "kinds"]
