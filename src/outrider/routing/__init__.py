"""Ways to a domain: routes, mail exchangers, local users and aliases, the TLS of each way. No I/O."""
