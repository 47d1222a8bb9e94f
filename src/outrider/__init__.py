"""Outrider: a mail transfer agent for sites that hold each other to account."""

__version__ = "0.1.0"
