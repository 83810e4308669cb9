"""The ways to reach a user: one file each, and one line in registry.py."""
