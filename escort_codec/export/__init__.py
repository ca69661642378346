"""The output of `escort decode`: its plan, file names, folder tree and manifest."""
