"""Regenerators: one prompt exemplar and one seed into one image."""
