"""Tests of Outrider; the folders mirror `src/outrider`, with `peers` holding the real mail servers."""
