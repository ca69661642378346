"""A run: its settings, its plan, and the folder that it leaves."""
