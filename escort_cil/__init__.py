"""Class-incremental learning with a memory that is a ``.escx`` file. Needs torch."""
