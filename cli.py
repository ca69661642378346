"""The command line from a checkout: ``python cli.py encode DATA OUT.escx`` is ``escort encode DATA OUT.escx``."""

from __future__ import annotations

from escort_cli.app import main

if __name__ == "__main__":
    main()
