"""Transforms on whole batches, on the device: from uint8 to the network's input.

Every random number comes from the caller's ``torch.Generator``; each image draws its own. Nothing loops over images.
"""

from escort_cil.augment.transform import Transform, augment, normalise, transforms

__all__ = ["Transform", "augment", "normalise", "transforms"]
