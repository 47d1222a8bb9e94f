"""What happens to stored mail: schedule, limits, next hosts, settlement, reports; local transports."""
