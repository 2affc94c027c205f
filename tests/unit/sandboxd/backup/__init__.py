"""Twins of sandboxd.backup."""
