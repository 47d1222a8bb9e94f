"""The benchmark: Outrider and a peer in turn, on one machine, in one run."""
