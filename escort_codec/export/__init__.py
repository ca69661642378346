"""What `escort decode` writes: which files, their names, the output tree and its manifest."""
