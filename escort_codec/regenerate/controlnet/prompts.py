"""Text embeddings, each distinct prompt's computed once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import torch

from escort_codec.regenerate.controlnet.loading import Loaded, quiet_libraries

KEPT: Final = 16_384  # embeddings: 2 GB of Stable Diffusion 1's in half precision, were all of them different


@dataclass(frozen=True, slots=True)
class Embedding:
    """One prompt's hidden states (1, tokens, width) and, of XL, its pooled state (1, width); on the CPU."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None


class Embeddings:
    """Embeds prompts one by one, so that an embedding does not depend on what else is embedded, and keeps them.

    Text beyond CLIP's 77 tokens is cut off, as in diffusers and in the paper's scripts.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._kept: OrderedDict[tuple[str, torch.dtype], Embedding] = OrderedDict()

    def of(self, prompt: str) -> Embedding:
        """The embedding of a prompt in the model's present dtype."""
        key = (prompt, self._loaded.dtype)
        found = self._kept.get(key)
        if found is None:
            found = self._embed(prompt)
            self._kept[key] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def batch(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The hidden states (B, tokens, width) and pooled states (B, width) or None of B prompts, on the device."""
        found = [self.of(prompt) for prompt in prompts]
        device = self._loaded.device
        pooled = [embedding.pooled for embedding in found if embedding.pooled is not None]
        hidden = torch.cat([embedding.hidden for embedding in found]).to(device)
        return hidden, torch.cat(pooled).to(device) if pooled else None

    @torch.no_grad()
    def _embed(self, prompt: str) -> Embedding:
        with quiet_libraries():  # of prompts that are too long
            states = self._loaded.pipeline.encode_prompt(
                [prompt], device=self._loaded.device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        pooled = states[2].cpu() if self._loaded.xl else None
        return Embedding(states[0].cpu(), pooled)
