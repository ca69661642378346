"""The commands of ``escort``, one a module."""
