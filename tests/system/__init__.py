"""The whole server, as a postmaster runs it: `outrider serve` over sockets against real peers."""
