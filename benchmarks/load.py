"""Load a service with requests, good and bad, and count the answers.

    python -m benchmarks.load --artefact=runs/x/litert_early_exit

Starts `apps.serve` on a free port of this computer, sends single images over
several connections for some seconds and then bad requests among good ones. The
exit status is 1 if a good request was not answered, or a bad one was.
"""

import argparse
import asyncio
import collections
import contextlib
import itertools
import socket
import statistics
import subprocess
import sys
import time

import httpx
import numpy as np

from benchmarks.scenario import ROOT

_BAD = 60


def _options():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--artefact", required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=8)
    return parser.parse_args()


@contextlib.contextmanager
def _service(artefact):
    """Start a service and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "apps.serve"),
            *(f"--artefact={artefact}", f"--port={port}"),
        ],
        cwd=ROOT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/health").status_code == 200:
                    break
            if process.poll() is not None:
                raise SystemExit("The service did not start.")
            time.sleep(0.1)
        else:
            raise SystemExit("The service did not answer within 30 seconds.")
        yield address
    finally:
        process.terminate()
        process.wait()


async def _send_good(client, images, until):
    """Return seconds and status of every request."""
    found = []
    for image in itertools.cycle(images):
        if time.perf_counter() > until:
            return found
        start = time.perf_counter()
        response = await client.post("/predict", content=image)
        found.append((time.perf_counter() - start, response.status_code))


def _bad_requests(size):
    """Yield paths and bodies that no service should answer."""
    rng = np.random.default_rng(0)
    for number in range(_BAD):
        kind = number % 6
        if kind == 0:
            yield "/predict", rng.bytes(int(rng.integers(0, size)))
        elif kind == 1:
            yield "/predict", rng.bytes(size + 1 + number)
        elif kind == 2:
            yield "/predict", b"x" * (size * 1000)
        elif kind == 3:
            yield f"/predict?dtype=float{number}", rng.bytes(size)
        elif kind == 4:
            values = np.full(
                size, [np.nan, np.inf, 2, -1][number // 6 % 4], "<f4"
            )
            yield "/predict?dtype=float32", values.tobytes()
        else:
            yield f"/{number}", rng.bytes(size)


async def _load(address, options):
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        described = (await client.get("/model")).json()
        size = int(np.prod(described["input_shape"]))
        rng = np.random.default_rng(1)
        images = [rng.bytes(size) for _ in range(64)]
        start = time.perf_counter()
        until = start + options.seconds
        parts = await asyncio.gather(
            *(
                _send_good(client, images, until)
                for _ in range(options.connections)
            )
        )
        seconds = time.perf_counter() - start
        bad = collections.Counter()
        after = collections.Counter()
        for path, body in _bad_requests(size):
            response = await client.post(path, content=body)
            bad[response.status_code] += 1
            response = await client.post("/predict", content=images[0])
            after[response.status_code] += 1
    return [each for part in parts for each in part], seconds, bad, after


def main():
    """Load the service and print what came back; return the exit status."""
    options = _options()
    with _service(options.artefact) as address:
        found, seconds, bad, after = asyncio.run(_load(address, options))
    times, statuses = zip(*found, strict=True)
    statuses = collections.Counter(statuses)
    percentiles = statistics.quantiles(times, n=100)
    print(f"{len(times)} requests over {options.connections} connections")
    print(f"requests per second  {len(times) / seconds:,.0f}")
    for percent in (50, 90, 99):
        print(f"p{percent} ms  {1000 * percentiles[percent - 1]:.2f}")
    print(f"statuses of good requests  {dict(statuses)}")
    print(f"statuses of {_BAD} bad requests  {dict(bad)}")
    print(f"statuses of good requests in between  {dict(after)}")
    lost = set(statuses) | set(after) != {200}
    answered = any(status < 400 or status >= 500 for status in bad)
    return 1 if lost or answered else 0


if __name__ == "__main__":
    sys.exit(main())
