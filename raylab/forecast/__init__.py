"""How long and how dear: a plan becomes seconds and money before anything starts.

Speeds come from earlier records, or from a few real steps timed in processes of their own.
"""
