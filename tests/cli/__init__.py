"""The command line's own commands, without a server."""
