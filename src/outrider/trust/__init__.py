"""Do we believe what they say? What lists that we chose say of a client, a host or a sender (ITP-3).

Pure: lists in, questions out, answers in, facts out. `reception.trust_lookups` asks DNS and reads files.
"""
