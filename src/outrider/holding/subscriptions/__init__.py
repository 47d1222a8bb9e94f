"""The subscription service: what people wish to get."""
