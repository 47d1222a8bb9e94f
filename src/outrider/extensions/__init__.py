"""MT2 extensions: what they are, which there are, and the ones that come with Outrider (MT2-19 to MT2-21)."""
