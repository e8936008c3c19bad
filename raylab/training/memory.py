"""Whether an error is a device's: its memory ran out, or it is broken; drivers, without torch,
know its words.
"""

import re

# cuDNN 8 and 9 name it differently; trying its algorithms, cuDNN drops each one's own lack of
# memory and then says that it found none.
FULL_DEVICE = r"OutOfMemoryError|_ALLOC(ATION)?_FAILED|unable to find an engine"


def is_out_of_memory(error: Exception) -> bool:
    """Whether fewer images at a time, or fewer trials on the device, might have fitted."""
    told = f"{type(error).__name__}: {error}"
    return isinstance(error, RuntimeError) and re.search(FULL_DEVICE, told) is not None


def breaks_process(error: Exception) -> bool:
    """After a CUDA error other than a lack of memory, no trial can train in this process."""
    is_of_cuda = re.search("CUDA error|cuDNN error", str(error)) is not None
    return is_of_cuda and not is_out_of_memory(error)
