"""Whether an error says that a device's memory ran out; drivers, without torch, know its words."""

import re

# Trying its algorithms, cuDNN drops each one's own lack of memory and then says that it found none.
FULL_DEVICE = r"OutOfMemoryError|_STATUS_ALLOC_FAILED|unable to find an engine"


def is_out_of_memory(error: Exception) -> bool:
    """Whether fewer images at a time, or fewer trials on the device, might have fitted."""
    told = f"{type(error).__name__}: {error}"
    return isinstance(error, RuntimeError) and re.search(FULL_DEVICE, told) is not None
