"""An hour of mixed load on a host, and what is left of it: `make soak MINUTES=60`."""
