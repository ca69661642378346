"""What `escort decode` writes: which files, their names, the output tree and its manifest."""

from __future__ import annotations

from escort_codec.export.manifest import ManifestEntry, read_manifest
from escort_codec.export.plan import ExportOptions, ExportPlan, Task, make_plan
from escort_codec.export.tree import Outcome, export_file, prepare_tree, write_tree

__all__ = [
    "ExportOptions",
    "ExportPlan",
    "ManifestEntry",
    "Outcome",
    "Task",
    "export_file",
    "make_plan",
    "prepare_tree",
    "read_manifest",
    "write_tree",
]
