"""The demo: a drawn data set, and three kinds of memory compared on it."""
