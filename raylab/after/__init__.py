"""What is done with the trials of a sweep that has ended: one of them again, longer, retrained,
tested, taken as a teacher, or found by its name.
"""
