"""Work on a batch in pieces, on the CPU in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

# A CPU works on pieces of about this many bytes of float32: they stay in its cache, and the allocator hands the same
# memory out again instead of asking the system for new pages.
_PIECE_BYTES = 12 << 20


def in_pieces(work: Callable[[slice], None], images: Tensor) -> None:
    """Calls ``work`` for slices that together are all of ``images``, which must not depend on one another.

    A GPU takes all at once. A CPU takes pieces, in as many threads as torch uses and each of them with one thread of
    its own: torch's threads would wait for each other at the end of each of the hundred small operations, for longest
    where other programs run as well (measured: five to ten times the processor time).
    """
    count = len(images)
    if images.device.type != "cpu":
        if count:
            work(slice(0, count))
        return
    threads = torch.get_num_threads()
    step = max(1, min(_PIECE_BYTES // (4 * images[:1].numel() or 1), -(-count // threads)))
    pieces = [slice(i, min(i + step, count)) for i in range(0, count, step)]
    if threads == 1 or len(pieces) < 2:
        for piece in pieces:
            work(piece)
        return
    try:
        with ThreadPoolExecutor(threads, "augment", torch.set_num_threads, (1,)) as pool:
            for task in [pool.submit(work, piece) for piece in pieces]:
                task.result()
    finally:
        # The number is a thread's own, but it is also the default of threads that start later.
        torch.set_num_threads(threads)
