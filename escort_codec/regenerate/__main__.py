"""``escort decode --regenerator controlnet``, for launchers that start a module.

``accelerate launch --multi_gpu -m escort_codec.regenerate memory.escx --seeds 0-4``, or
``torchrun --nproc-per-node 8 -m escort_codec.regenerate memory.escx --seeds 0-4``.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Runs ``escort decode`` with this program's arguments."""
    from escort_cli.app import app

    arguments = sys.argv[1:]
    if not any(argument.partition("=")[0] == "--regenerator" for argument in arguments):
        arguments = ["--regenerator", "controlnet", *arguments]
    app(["decode", *arguments], prog_name="escort")


if __name__ == "__main__":
    main()
