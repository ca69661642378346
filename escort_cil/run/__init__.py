"""A run: its settings, its plan and its folder."""
