"""`outrider bench`: a load generator and a report, for a server on one's own machine."""
