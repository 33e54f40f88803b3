"""Prefetch items in threads while the ones before are in use."""

import concurrent.futures
import threading


class Prefetch:
    """Compute the next items of a sequence before they are asked for.

    An item is a function of its number: when it is computed changes nothing.

    Args:
        depth: number of items to compute ahead, at least 1. Defaults to 2.
    """

    def __init__(self, depth=2):
        self._depth = depth
        self._pool = concurrent.futures.ThreadPoolExecutor(depth)
        self._futures = {}
        # Keras' TensorFlow pipeline asks from another thread.
        self._lock = threading.Lock()

    def get(self, make, sequence, index, end):
        """Return `make(index)`, and begin with the items that follow.

        Args:
            make: function from the number of an item to the item.
            sequence: key that tells this sequence from others, such as the
                epoch; one `make` for each.
            index: number of the item.
            end: number after the last item of the sequence.
        """
        last = min(index + self._depth, end - 1)
        wanted = [(sequence, number) for number in range(index, last + 1)]
        with self._lock:
            for key in [key for key in self._futures if key not in wanted]:
                self._futures.pop(key).cancel()
            for key in wanted:
                if key not in self._futures:
                    self._futures[key] = self._pool.submit(make, key[1])
            future = self._futures.pop(wanted[0])
        return future.result()
