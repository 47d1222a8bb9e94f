"""Peers of the benchmark that are not mail servers from packages: small programs around a library."""
