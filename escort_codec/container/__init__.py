"""The container: many exemplars in one ``.escx`` file."""
