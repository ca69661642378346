"""The commands of ``escort``, mostly one per module."""
