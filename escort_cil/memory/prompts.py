"""The prompts of a run: from its file of prompts, or encoded from images with that file's options."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from escort_codec.coding import codings
from escort_codec.container import Reader
from escort_codec.encode.folder import LEAST
from escort_codec.encode.images import encode_picture
from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import HIRES, EncodeOptions
from escort_codec.source import SourceImage

if TYPE_CHECKING:
    from PIL import Image

SAMPLE: Final = 64  # prompts of a file from which its options are found


class Prompts:
    """Prompts of images: those in ``prompts_file``; others are encoded with its options, or else with ``options``.

    ``hint`` 0 drops the colour hint, also of prompts in the file.
    """

    def __init__(self, options: EncodeOptions, prompts_file: Reader | None = None, hint: int | None = None) -> None:
        self._file = prompts_file
        self._drops_hints = hint == 0
        self.options = options if prompts_file is None else options_of(prompts_file, options, hint)

    def find(self, image: SourceImage) -> Exemplar | None:
        """The image's prompt in the file, or None."""
        if self._file is None:
            return None
        try:
            exemplar = self._file[image.key]
        except KeyError:
            return None
        if exemplar.kind != "prompt":
            return None
        return replace(exemplar, hint=None) if self._drops_hints else exemplar

    def encode(self, image: SourceImage, picture: Image.Image, most_bytes: int | None = None) -> Exemplar:
        """A new prompt of an image and its decoded picture (Pillow, mode RGB), with rate control in ``most_bytes``.

        Many threads may call it.
        """
        options = self.options
        if most_bytes is not None:
            default = EncodeOptions()
            hint = default.hint if options.hint else 0
            options = replace(
                options, bytes_per_exemplar=most_bytes, settings=default.settings, hint=hint, hint_quality=None
            )
        return encode_picture(image, picture, options)


def options_of(prompts_file: Reader, options: EncodeOptions, hint: int | None) -> EncodeOptions:
    """The options with which a file's prompts were encoded, found from the first of them.

    A map may be stored with a simpler coding than the options name: the highest one of SAMPLE prompts counts.
    Raises ConfigError if the file has no prompts.
    """
    some = list(islice((exemplar for exemplar in prompts_file if exemplar.kind == "prompt"), SAMPLE))
    if not some:
        raise ConfigError(f"{prompts_file.path}: holds no prompts: give a file that `escort encode` wrote")
    first = some[0]
    side = max(first.hint_size or (0,))
    scaled = any(each.map_shape != each.size for each in some)
    if scaled and (first.recipe.preset == HIRES or len({each.edge_settings for each in some}) > 1):
        # Rate control chose the settings for each image: new prompts get as many bytes as the largest.
        most = max(len(each.payload) + len(each.hint or b"") for each in some)
        default = EncodeOptions()
        options = replace(options, settings=default.settings, hint_quality=None)
        return replace(
            options,
            preset=first.recipe.preset,
            seeds=prompts_file.seeds or options.seeds,
            bytes_per_exemplar=max(LEAST, most),
            hint=default.hint if side and hint != 0 else 0,
            hint_codec=first.hint_codec if first.hint else options.hint_codec,
        )
    return replace(
        options,
        preset=first.recipe.preset,
        settings=first.edge_settings or options.settings,
        seeds=prompts_file.seeds or options.seeds,
        hint=side if hint is None else hint,
        hint_codec=first.hint_codec if first.hint else options.hint_codec,
        coding=max((exemplar.coding for exemplar in some), key=lambda name: codings.get(name).number),
    )
