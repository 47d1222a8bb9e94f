"""Attacks of the checklist, tried over sockets on a running server; after each one it must be as before."""
