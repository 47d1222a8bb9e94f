"""MT2 without I/O: one core, `peer.Mt2Peer`, for both ends of a connection and both directions (step 4).

Begin with `events.py` (what happens), then `peer.py` (what one may do). The wire is docs/protocols/mt2.md.
"""
