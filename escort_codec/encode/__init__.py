"""Encoding: a data folder to a ``.escx`` file, images to exemplars, and the best of an image in a number of bytes."""
