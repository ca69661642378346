"""``python -m escort_cli`` is ``escort``: for launchers that start a module, such as torchrun and accelerate."""

from __future__ import annotations

from escort_cli.app import main

if __name__ == "__main__":
    main()
