"""What is heard of a running sweep: its events become counts, progress, live pages, trackers, news.

Each of these is told what happens and decides nothing; none starts Ray or needs torch.
"""
