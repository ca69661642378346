"""The codec: edge-map prompts in a ``.escx`` file. Needs no torch."""
