"""The one place where the parts are joined, started, supervised, reloaded and stopped."""
