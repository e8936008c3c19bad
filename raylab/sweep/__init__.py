"""Many trials: one trial on Ray Train, all of them on Ray Tune, their resources, progress, records.

The coat of Ray over functions that work without it; everything in here may import everything else.
"""
