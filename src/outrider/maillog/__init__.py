"""Records of what happened: one function per fact, which writes the log line and moves the metric."""
