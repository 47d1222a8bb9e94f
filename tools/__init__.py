"""Programs for working on Outrider; not part of what is shipped."""
