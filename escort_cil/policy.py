"""What is kept of an image: its file, a reduced WebP copy, or a prompt; and in which mixture."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from escort_codec.container import Reader
from escort_codec.encode import EncodeOptions, encode_image
from escort_codec.errors import ConfigError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import hint_size, thumbnail_shape
from escort_codec.source import SourceImage, image_size, load_rgb, read_file
from escort_codec.workers import usable_cores

WEBP_QUALITY = 20

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class RealKind:
    """What a real exemplar is: the image file as it is, or with ``side`` (the longer side in pixels) a WebP copy."""

    side: int | None = None
    quality: int = WEBP_QUALITY

    @classmethod
    def parse(cls, text: str) -> RealKind:
        """``original``, ``webp:SIDE`` or ``webp:SIDE:QUALITY``; raises ConfigError."""
        if text == "original":
            return cls()
        match = re.fullmatch(r"webp:([0-9]{1,5})(?::([0-9]{1,3}))?", text)
        if not match or not 1 <= int(match[1]) <= 16383 or int(match[2] or 0) > 100:
            raise ConfigError(f"--real {text!r}: write original, webp:SIDE or webp:SIDE:QUALITY, such as webp:64:20")
        return cls(int(match[1]), int(match[2] or WEBP_QUALITY))

    def data(self, image: SourceImage) -> bytes:
        """The image file that is kept. Raises ImageError."""
        data = read_file(image.path)
        return data if self.side is None else self.reduced(data, str(image.path))

    def reduced(self, data: bytes, name: str) -> bytes:
        """An image file's bytes as a lossy WebP file whose longer side is at most ``side``."""
        from PIL import Image

        assert self.side is not None
        rgb = load_rgb(data, name=name)
        height, width = thumbnail_shape((rgb.shape[0], rgb.shape[1]), self.side)
        small = Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        file = io.BytesIO()
        small.save(file, "WEBP", quality=self.quality, method=4)
        return file.getvalue()

    def exemplar(self, image: SourceImage, data: bytes) -> Exemplar:
        """The image as a real exemplar that holds the image file ``data``. Raises ImageError."""
        return Exemplar.from_image(
            data,
            label=image.label,
            name=image.name,
            size=image_size(data, name=str(image.path)),
            prompt=image.caption,
        )


@dataclass(frozen=True, slots=True)
class Mix:
    """The mixture of real exemplars and prompts: shares of the bytes (they add up to 1), or counts a class."""

    real: float
    prompt: float
    counts: bool = False

    @classmethod
    def parse(cls, text: str) -> Mix:
        """``real=0.3,prompt=0.7`` (shares), ``real=18,prompt=48`` (counts), or one of them alone."""
        values: dict[str, str] = {}
        for part in text.split(","):
            key, _, value = part.strip().partition("=")
            if key not in ("real", "prompt") or key in values or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
                raise ConfigError(f"--mix {text!r}: write shares, real=0.3,prompt=0.7, or counts, real=18,prompt=48")
            values[key] = value
        real, prompt = (float(values.get(key, "0")) for key in ("real", "prompt"))
        if abs(real + prompt - 1) < 1e-9:
            return cls(real, prompt)
        if real + prompt == 0 or any("." in value for value in values.values()):
            raise ConfigError(f"--mix {text!r}: shares must add up to 1, counts are whole numbers")
        return cls(real, prompt, counts=True)


class Maker:
    """Makes exemplars of images: real ones, and prompts, which are taken from ``prompts`` where that file has them.

    ``hint`` 0 leaves the colour hint out, also of prompts that have one. An image that the file does not hold is
    encoded on the spot, as the file's first exemplar was. Threads do the work. What was made is kept until ``forget``,
    as an image's prompt serves for its copies and for the memory.
    """

    def __init__(
        self, real: RealKind, options: EncodeOptions, *, prompts: Reader | None = None, hint: int | None = None
    ) -> None:
        self.real = real
        self._prompts = prompts
        self._strip = hint == 0
        self._options = options_like(prompts, options, hint) if prompts is not None else options
        self._workers = options.workers or usable_cores()
        self._prompts_made: dict[Path, Exemplar] = {}
        self._files_made: dict[Path, bytes] = {}

    def forget(self) -> None:
        """Lets go of what was made for a phase's images."""
        self._prompts_made.clear()
        self._files_made.clear()

    def reals(self, images: Sequence[SourceImage]) -> list[Exemplar]:
        """Real exemplars of images. Raises ImageError."""
        return self._map(self._real, images)

    def prompts(self, images: Sequence[SourceImage]) -> list[Exemplar]:
        """Prompts of images. Raises ImageError."""
        return self._map(self._prompt, images)

    def prompts_of(self, exemplars: Sequence[Exemplar]) -> list[Exemplar]:
        """Prompts of real exemplars, made of the image files that they hold."""
        return self._map(self._prompt_of, exemplars)

    def reduced(self, images: Sequence[SourceImage]) -> list[bytes]:
        """The reduced WebP copies of images. Raises ImageError."""
        return self._map(self._file, images)

    def _file(self, image: SourceImage) -> bytes:
        if self.real.side is None:
            return self.real.data(image)  # a file that is kept as it is can be read again
        if image.path not in self._files_made:
            self._files_made[image.path] = self.real.data(image)
        return self._files_made[image.path]

    def _real(self, image: SourceImage) -> Exemplar:
        return self.real.exemplar(image, self._file(image))

    def _prompt(self, image: SourceImage) -> Exemplar:
        if image.path not in self._prompts_made:
            self._prompts_made[image.path] = self._new_prompt(image)
        return self._prompts_made[image.path]

    def _new_prompt(self, image: SourceImage) -> Exemplar:
        if self._prompts is not None:
            try:
                exemplar = self._prompts[image.key]
            except KeyError:
                pass
            else:
                if exemplar.kind == "prompt":
                    return replace(exemplar, hint=None) if self._strip else exemplar
        return encode_image(image, self._options).exemplar

    def _prompt_of(self, exemplar: Exemplar) -> Exemplar:
        image = SourceImage(Path(exemplar.key), exemplar.label, exemplar.name, exemplar.prompt)
        return encode_image(image, self._options, exemplar.image).exemplar

    def _map(self, make: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
        with ThreadPoolExecutor(self._workers, thread_name_prefix="exemplar") as pool:
            return list(pool.map(make, items))


def options_like(prompts: Reader, options: EncodeOptions, hint: int | None) -> EncodeOptions:
    """The options that the file's first prompt was encoded with, as far as it tells; raises ConfigError for none."""
    first = next((exemplar for exemplar in prompts if exemplar.kind == "prompt"), None)
    if first is None:
        raise ConfigError(f"{prompts.path}: holds no prompts; give the file that `escort encode` wrote")
    side = max(hint_size(first.hint)) if first.hint else 0
    return replace(
        options,
        preset=first.recipe.preset,
        settings=first.made or options.settings,
        seeds=prompts.seeds or options.seeds,
        hint=side if hint is None else hint,
        coding=first.coding,
    )
