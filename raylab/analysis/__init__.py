"""What results mean: intervals of families, ties, effects of axes, label quality, what to try next.

Stored numbers in, findings out; it trains nothing and knows neither torch nor Ray.
"""
