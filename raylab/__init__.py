"""Image-classification experiments fanned out over Ray, gathered into one Parquet leaderboard."""

__version__ = "0.1.0"
