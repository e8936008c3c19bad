"""How the process deals with freed memory: kept from step to step, given back after a trial."""

import ctypes
import sys

# From glibc's malloc.h; other systems' allocators keep freed blocks anyway.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1  # bytes
MOST_OF_OLD = 32 * 2**20  # bytes; glibc before 2.35 refuses a higher M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Freed activations stay mapped for the next step.

    glibc returns large blocks to the kernel at once, so that every step of a CNN asks for its
    activations anew, page by page: 5 to 20 % of the time on a CPU.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            if not libc.mallopt(M_MMAP_THRESHOLD, NEVER):
                libc.mallopt(M_MMAP_THRESHOLD, MOST_OF_OLD)
            libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def give_back_memory() -> None:
    """What is free goes back to the kernel, also what lies between blocks still in use.

    Without it a process that trains trial after trial, each in a thread of its own, grows.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
