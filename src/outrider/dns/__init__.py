"""DNS for the mail system: a caching stub resolver whose answers are small, bounded and typed.

`answers` holds the values, the errors and the `Resolver` interface (no I/O); `resolver` the one that asks
real name servers. The wire format is dnspython's business alone.
"""
