"""Transforms on whole batches, on the device: from uint8 to what the network reads.

Every random number comes from the ``torch.Generator`` that the caller gives; each image draws its own. Nothing loops
over images.
"""

from escort_cil.augment.transform import Transform, augment, normalise, transforms

__all__ = ["Transform", "augment", "normalise", "transforms"]
