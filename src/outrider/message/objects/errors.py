"""What is wrong with an object, in one plain sentence."""

from __future__ import annotations


class ObjectError(ValueError):
    """An envelope or headers object that is not what the published schema and rules ask for (MT2-5).

    The text is one line of printable characters, fit for the answer to a peer; it holds nothing of the object
    but names that the schema allows.
    """
