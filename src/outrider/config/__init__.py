"""Settings: read, checked with file and line, and frozen before anything starts."""
