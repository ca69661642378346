"""Learned pictures: a network of the package decodes integers from the file (spec/latent-1.md)."""
