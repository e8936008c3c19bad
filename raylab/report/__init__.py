"""The face of the results: one self-contained HTML file, or markdown for a pull request.

Stored numbers and the analysis of them come in, text goes out. It knows neither torch nor Ray,
trains and estimates nothing of its own, and what it writes fetches nothing when it is opened.
"""
