"""What a sandbox host becomes: one deploy per module, in the order of `deploy.py`."""
