"""What came out: the record of one trial, the results directory of one sweep, the leaderboard.

`ResultsDirectory` owns every file name; a leaderboard frame merges one or several sweeps, and a
table is what a reader sees of it. No torch, no ray: results can be read anywhere.
"""
