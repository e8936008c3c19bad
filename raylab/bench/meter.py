"""Runs a command and says how long it took and how much memory; `python -m` with the command.

A process of its own, since Linux counts the memory of the process that forked it to its child.
"""

import json
import resource
import subprocess
import sys
import time


def main() -> None:
    """argv: the command; stdout: seconds, peak bytes and exit code as JSON; stderr: its own."""
    began = time.perf_counter()
    code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    scale = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    print(json.dumps({"seconds": seconds, "peak_bytes": peak * scale, "code": code}))


if __name__ == "__main__":
    main()
