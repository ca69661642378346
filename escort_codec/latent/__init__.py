"""Learned pictures: integers in the file, a network in the package (spec/latent-1.md)."""
