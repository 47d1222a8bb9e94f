"""Command words: each asks the running server, or the parts themselves, and prints what came back."""
