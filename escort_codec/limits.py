"""The caps of ``spec/FORMAT.md``, section "Caps". Checked before memory is taken, on reading and on writing.

A hostile file can make a reader hold one block, one table and one map at a time, and nothing larger.
Lengths of strings are in bytes of UTF-8; all others as their comments say.
"""

from __future__ import annotations

from typing import Final

MAX_LABEL: Final = 255  # a class name is one folder name
MAX_NAME: Final = 1024  # a path relative to the class folder
MAX_PROMPT: Final = 8192
MAX_SOURCE: Final = 4096  # the data folder as it was typed
MAX_RECIPE: Final = 16 * 1024  # one recipe's msgpack
MAX_RECIPES: Final = 65_536  # recipes in one file
MAX_RECIPE_BYTES: Final = 4 << 20  # all recipes of one file together
MAX_HEAD: Final = 64 * 1024  # bytes of the HEAD chunk's payload

MAX_SIDE: Final = 65_535  # pixels
MAX_PIXELS: Final = 1 << 26  # pixels of one image or edge map: 67 Mpixel
MAX_SEEDS: Final = 4096  # seeds recorded for one exemplar
MAX_SEED: Final = (1 << 32) - 1
MAX_HINT: Final = 64 * 1024  # bytes of one hint
MAX_HINT_SIDE: Final = 1024  # pixels
MAX_PAYLOAD: Final = 1 << 26  # bytes of one exemplar: coded map and hint, or the image file

MAX_BLOCK_EXEMPLARS: Final = 1024
MAX_TABLE: Final = 16 << 20  # bytes of a block's table, decompressed
MAX_CHUNK: Final = 1 << 28  # bytes of a chunk's payload
MAX_INDEX: Final = 1 << 26  # bytes of the index, decompressed
MAX_LABELS: Final = 1 << 20  # class names in one file
MAX_INDEX_SEEDS: Final = 1 << 20  # seeds that the index names: all that any exemplar has
MAX_EXEMPLARS: Final = (1 << 32) - 1
