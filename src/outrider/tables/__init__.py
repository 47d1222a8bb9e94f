"""Small tables beside the spool: what lists, extensions and the like remember."""
