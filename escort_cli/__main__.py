"""``python -m escort_cli``, for launchers that start a module: ``torchrun -m escort_cli decode ...``."""

from __future__ import annotations

from escort_cli.app import main

if __name__ == "__main__":
    main()
