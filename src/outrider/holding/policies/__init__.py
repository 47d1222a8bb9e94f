"""The information service (MIS), and what others publish."""
