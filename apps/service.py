"""Answer images over HTTP with a deployed model.

| request | answer |
|---|---|
| `POST /predict`, body of pixels | lists `labels`, `exits`, `confidences` |
| `GET /model` | image shape, exits, thresholds, format |
| `GET /health` | `{"status": "ok"}` |

The body is the pixels of one image after the other, row by row, channels last:
a byte each, 0 to 255, or with `?dtype=float32` little-endian floats from 0 to
1. It is never parsed, only counted. Whatever is wrong with a request is
answered with a sentence, `{"error": ...}`, and the status 4xx; 500 says that
the artefact failed, 503 that too many requests wait.
"""

import asyncio
import logging
import math

import numpy as np
from anyio import CapacityLimiter
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Route

from keras_neokd.base import checks

_DTYPES = {"uint8": np.dtype("uint8"), "float32": np.dtype("<f4")}
# Seconds in which a client has to send its images.
_PATIENCE = 10.0


class _Refused(Exception):
    """What is wrong with a request, and its status."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Service:
    """The handlers of the requests.

    Args:
        artefact: an `Artefact` with a policy, for images of a fixed size.
        max_images: most images of a request, an integer >= 1.
        max_waiting: most requests that arrive, wait or are computed, an
            integer >= 1; each holds its images.

    Raises:
        ValueError: if the artefact decides nothing, or takes any size.
    """

    def __init__(self, artefact, max_images=64, max_waiting=64):
        card = artefact.card
        if card.policy is None:
            raise ValueError(
                "A service needs an artefact with a policy, of the form "
                f"'early_exit' or 'stages': received {card.form!r}."
            )
        if None in card.input_shape:
            raise ValueError(
                "A service needs images of a fixed size, received an artefact "
                f"for {card.input_shape}."
            )
        self._artefact = artefact
        self._max_images, self._max_waiting = max_images, max_waiting
        self._pixels = math.prod(card.input_shape)
        # An artefact serves one thread at a time.
        self._limiter, self._waiting = None, 0

    def app(self):
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/predict", self.predict, methods=["POST"]),
                Route("/model", self.model),
                Route("/health", self.health),
            ],
            exception_handlers={HTTPException: _explained},
        )

    async def predict(self, request):
        """Answer the images of a request."""
        try:
            dtype = self._dtype(request)
            self._take_place()
            try:
                body = await self._body(request, dtype)
                decision = await self._decided(body, dtype)
            finally:
                self._waiting -= 1
        except _Refused as error:
            message = {"error": str(error)}
            return JSONResponse(message, error.status)
        names = self._artefact.card.exit_names
        return JSONResponse(
            {
                "labels": decision.label.tolist(),
                "exits": [names[index] for index in decision.exit_index],
                "confidences": decision.confidence.tolist(),
            }
        )

    async def model(self, request):
        """Say what the artefact is."""
        card = self._artefact.card
        return JSONResponse(
            {
                "input_shape": card.input_shape,
                "num_classes": card.num_classes,
                "exits": card.exit_names,
                "policy": card.policy.get_config(),
                "format": card.format,
                "form": card.form,
                "precision": card.precision,
                "weights_sha256": card.weights_sha256,
            }
        )

    async def health(self, request):
        """Say that requests are answered."""
        return JSONResponse({"status": "ok"})

    def _dtype(self, request):
        name = request.query_params.get("dtype", "uint8")
        if name not in _DTYPES:
            raise _Refused(
                400, f"dtype needs one of {list(_DTYPES)}, received {name!r}."
            )
        return _DTYPES[name]

    def _take_place(self):
        if self._waiting >= self._max_waiting:
            raise _Refused(
                503,
                f"{self._waiting} requests wait already: try again later.",
            )
        self._waiting += 1

    async def _body(self, request, dtype):
        """Return the body, of which no more is read than is allowed."""
        most = self._max_images * self._pixels * dtype.itemsize
        body = bytearray()
        try:
            async with asyncio.timeout(_PATIENCE):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise _Refused(
                            413,
                            f"A request takes at most {self._max_images} "
                            f"images, {most:,} bytes: received more.",
                        )
        except TimeoutError:
            raise _Refused(
                408, f"The images did not arrive within {_PATIENCE:g} seconds."
            ) from None
        except ClientDisconnect:
            raise _Refused(400, "The client has gone.") from None
        return body

    def _images(self, body, dtype):
        size = self._pixels * dtype.itemsize
        if not body or len(body) % size:
            raise _Refused(
                400,
                f"The body needs {size:,} bytes for each image of shape "
                f"{self._artefact.card.input_shape} in {dtype.name}: received "
                f"{len(body):,}.",
            )
        pixels = np.frombuffer(body, dtype)
        images = pixels.reshape(-1, *self._artefact.card.input_shape)
        if dtype == np.uint8:
            images = images.astype("float32")
            images /= 255
            return images
        images = images.astype("float32")
        try:
            checks.images_and_labels(images)
        except ValueError as error:
            raise _Refused(400, str(error)) from None
        return images

    async def _decided(self, body, dtype):
        if self._limiter is None:
            self._limiter = CapacityLimiter(1)
        return await to_thread.run_sync(
            self._decide, body, dtype, limiter=self._limiter
        )

    def _decide(self, body, dtype):
        images = self._images(body, dtype)
        try:
            return self._artefact.decide(images)
        except ValueError as error:
            raise _Refused(500, str(error)) from None
        except Exception:
            # Runtimes have errors of their own, which are not for clients.
            logging.exception("The artefact failed.")
            raise _Refused(
                500, "The artefact failed on these images; its log says why."
            ) from None


async def _explained(request, error):
    """Answer for a path or a method that there is not."""
    del request
    message = {"error": f"{error.detail}. See /model and /predict."}
    return JSONResponse(message, error.status_code, headers=error.headers)
