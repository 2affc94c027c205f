"""The agent: a twin for each of its modules, and its protocol against a real server."""
