"""Processes that answer without doing anything."""

from benchmarks.processes import WorkerError


class FakeProcesses:
    """Stands for `processes.Process`; writes down who was asked what.

    Args:
        seconds: by name of a variant, the times of its steps; after the last
            it dies.
        results: by name of a variant, the result of its steps. Defaults to
            `[7.0]`.
        facts: by name of a variant, its facts. Defaults to none.
    """

    def __init__(self, seconds, results=None, facts=None):
        self.asked = []
        self._seconds = {name: iter(each) for name, each in seconds.items()}
        self._results, self._facts = results or {}, facts or {}

    def __call__(self, variant, threads, log_path):
        return _FakeProcess(self, variant.name)

    def answer(self, name, request):
        self.asked.append((name, request))
        if request == "build":
            return {"seconds": 2.0, "versions": {"jax": "1.2"}}
        if request == "memory":
            return {"peak_bytes": 300 * 2**20}
        if request == "facts":
            return self._facts.get(name, {})
        seconds = next(self._seconds[name], None)
        if seconds is None:
            raise WorkerError("because it died.")
        return {
            "seconds": seconds,
            "processor_seconds": 0.5 * seconds,
            "result": self._results.get(name, [7.0]),
        }


class _FakeProcess:
    def __init__(self, owner, name):
        self._owner, self._name = owner, name

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def ask(self, request):
        return self._owner.answer(self._name, request)

    def close(self):
        self._owner.asked.append((self._name, "close"))
