"""Data folders and image files: class folders, their images and captions, and pixels."""

from __future__ import annotations

from escort_codec.source.image import (
    FORMATS,
    check_file,
    image_size,
    load_image,
    load_rgb,
    read_file,
)
from escort_codec.source.layout import Layout, find_layout
from escort_codec.source.scan import Scan, SourceImage, check_heads, image_fault, read_ahead, scan, scan_folder

__all__ = [
    "FORMATS",
    "Layout",
    "Scan",
    "SourceImage",
    "check_file",
    "check_heads",
    "find_layout",
    "image_fault",
    "image_size",
    "load_image",
    "load_rgb",
    "read_ahead",
    "read_file",
    "scan",
    "scan_folder",
]
