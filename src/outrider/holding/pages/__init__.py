"""What people see of held mail."""
