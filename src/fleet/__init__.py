"""The service that makes one of several hosts: it answers, on a manager, what sandboxd answers on a single host."""
