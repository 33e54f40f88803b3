"""Batches made while the ones before are in use."""

import concurrent.futures
import threading


class Ahead:
    """Make the next things of a row before they are asked for.

    What is made does not depend on when: only functions of their number.

    Args:
        depth: how many to make ahead, at least 1. Defaults to 2.
    """

    def __init__(self, depth=2):
        self._depth = depth
        self._pool = concurrent.futures.ThreadPoolExecutor(depth)
        self._futures = {}
        # Keras' TensorFlow pipeline asks from another thread.
        self._lock = threading.Lock()

    def get(self, make, row, index, end):
        """Return `make(index)`, and begin with those that follow.

        Args:
            make: function of a number; one and the same for a row.
            row: what tells this row from others, such as the epoch.
            index: number of the thing.
            end: number after the last thing of the row.
        """
        last = min(index + self._depth, end - 1)
        wanted = [(row, number) for number in range(index, last + 1)]
        with self._lock:
            for key in [key for key in self._futures if key not in wanted]:
                self._futures.pop(key).cancel()
            for key in wanted:
                if key not in self._futures:
                    self._futures[key] = self._pool.submit(make, key[1])
            future = self._futures.pop(wanted[0])
        return future.result()
