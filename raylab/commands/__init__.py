"""One file per verb of the command line: its options, what it prints, its exit code.

Heavy libraries are imported inside a verb, so that `raylab --help` stays light.
"""
