"""The demo: a drawn data set, and five kinds of memory compared on it."""
