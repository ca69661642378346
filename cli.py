"""Runs the command line from a checkout: ``python cli.py --help``."""

from __future__ import annotations

from escort_cli.app import main

if __name__ == "__main__":
    main()
