"""Run folders into one self-contained HTML page: ``write_report``."""

from __future__ import annotations

from escort_cil.report.page import write_report

__all__ = ["write_report"]
