"""What to run: the trial config, the sweep config, reading a grid file, expanding it, identities.

Values only: no I/O but the grid file itself, no torch, no ray.
"""
