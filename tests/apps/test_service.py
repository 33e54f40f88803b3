"""Images over HTTP: right answers, and sentences for everything else."""

import asyncio
import threading

import numpy as np
import pytest

from keras_neokd import ExitPolicy
from keras_neokd.deployment.artefact import Artefact
from keras_neokd.deployment.artefact import EarlyExitArtefact
from keras_neokd.deployment.card import Card

testclient = pytest.importorskip("starlette.testclient")
pytest.importorskip("httpx")
service = pytest.importorskip("apps.service")

pytestmark = pytest.mark.any_backend

SHAPE = (4, 3, 2)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), "uint8")


def card(form="early_exit", input_shape=SHAPE):
    return Card(
        format="litert",
        form=form,
        precision="float32",
        exit_names=("first", "last"),
        input_shape=input_shape,
        num_classes=3,
        policy=None if form == "exits" else ExitPolicy((0.5,)),
        weights_sha256="",
        files={},
        multiply_adds=None,
        versions={},
        figures={},
    )


def session(inputs):
    """Answer with the pixels themselves."""
    (pixels,) = inputs["images"].reshape(1, -1)
    return {
        "logits": pixels[None, :3],
        "exit_index": np.array([int(pixels[0] < 0.5)], "int32"),
        "confidence": pixels[:1],
    }


@pytest.fixture(scope="module")
def client():
    artefact = EarlyExitArtefact(card(), [session])
    with testclient.TestClient(service.Service(artefact, 8, 2).app()) as client:
        yield client


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("count", [1, 5])
def test_images_are_answered(client, count, dtype):
    images, url = IMAGES[:count], "/predict"
    scaled = images.astype("float32") / 255
    body = images.tobytes()
    if dtype == "float32":
        url, body = f"{url}?dtype=float32", scaled.astype("<f4").tobytes()
    response = client.post(url, content=body)
    assert response.status_code == 200
    pixels = scaled.reshape(count, -1)
    answers = response.json()
    assert answers["labels"] == pixels[:, :3].argmax(axis=1).tolist()
    assert answers["exits"] == [
        "first" if each >= 0.5 else "last" for each in pixels[:, 0]
    ]
    np.testing.assert_allclose(answers["confidences"], pixels[:, 0], rtol=1e-6)


def test_the_model_describes_itself(client):
    described = client.get("/model").json()
    assert described["input_shape"] == list(SHAPE)
    assert described["policy"]["thresholds"] == [0.5]
    assert client.get("/health").json() == {"status": "ok"}


SIZE = IMAGES[0].size
BAD = [
    (b"", "", 400, "received 0"),
    (b"x" * (SIZE - 1), "", 400, f"needs {SIZE} bytes"),
    (b"x" * (SIZE + 1), "", 400, f"received {SIZE + 1}"),
    (b"x" * (9 * SIZE), "", 413, "at most 8 images"),
    (b"x" * 10_000_000, "", 413, "at most 8 images"),
    (b"x" * SIZE, "?dtype=float32", 400, f"needs {4 * SIZE} bytes"),
    (b"x" * SIZE, "?dtype=float64", 400, "dtype needs one of"),
    (b"x" * SIZE, "?dtype=", 400, "dtype needs one of"),
    (b"x" * (33 * 4 * SIZE), "?dtype=float32", 413, "at most 8 images"),
    (np.full(SIZE, 2, "<f4").tobytes(), "?dtype=float32", 400, r"[0, 1]"),
    (np.full(SIZE, -1, "<f4").tobytes(), "?dtype=float32", 400, r"[0, 1]"),
    (np.full(SIZE, np.nan, "<f4").tobytes(), "?dtype=float32", 400, "finite"),
    (np.full(SIZE, np.inf, "<f4").tobytes(), "?dtype=float32", 400, "finite"),
]


@pytest.mark.parametrize(("body", "query", "status", "message"), BAD)
def test_bad_images_are_answered_with_a_sentence(
    client, body, query, status, message
):
    response = client.post(f"/predict{query}", content=body)
    assert response.status_code == status
    assert message in response.json()["error"]
    # And the next request is answered.
    assert client.post("/predict", content=IMAGES.tobytes()).status_code == 200


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
def test_other_methods_are_refused(client, method):
    response = getattr(client, method)("/predict")
    assert response.status_code == 405
    assert "Method Not Allowed" in response.json()["error"]


def test_other_pages_are_not_there(client):
    for path in ("/", "/predict/../card.json", "/etc/passwd", "/model/x"):
        response = client.get(path)
        assert response.status_code == 404
        assert "Not Found" in response.json()["error"]


def test_requests_beyond_the_queue_are_told_so():
    begun, go_on = threading.Event(), threading.Event()

    def slow(inputs):
        begun.set()
        assert go_on.wait(30)
        return session(inputs)

    artefact = EarlyExitArtefact(card(), [slow])
    statuses = []
    with testclient.TestClient(service.Service(artefact, 8, 1).app()) as client:

        def ask():
            found = client.post("/predict", content=IMAGES[0].tobytes())
            statuses.append(found.status_code)

        first = threading.Thread(target=ask)
        first.start()
        assert begun.wait(30)
        second = client.post("/predict", content=IMAGES[0].tobytes())
        assert second.status_code == 503
        assert "try again" in second.json()["error"]
        go_on.set()
        first.join()
    assert statuses == [200]


def test_nothing_of_a_file_that_answers_nan_is_served():
    def broken(inputs):
        return {**session(inputs), "logits": np.full((1, 3), np.nan)}

    artefact = EarlyExitArtefact(card(), [broken])
    with testclient.TestClient(service.Service(artefact).app()) as client:
        response = client.post("/predict", content=IMAGES[0].tobytes())
    assert response.status_code == 500
    assert "returned NaN" in response.json()["error"]


def test_errors_of_a_runtime_are_logged_and_not_told(caplog):
    def broken(inputs):
        raise OSError("a path of the server")

    artefact = EarlyExitArtefact(card(), [broken])
    with testclient.TestClient(service.Service(artefact).app()) as client:
        response = client.post("/predict", content=IMAGES[0].tobytes())
    assert response.status_code == 500
    assert "failed on these images" in response.json()["error"]
    assert "a path of the server" not in response.text
    assert "a path of the server" in caplog.text


@pytest.mark.parametrize(
    ("event", "status"),
    [(None, 408), ({"type": "http.disconnect"}, 400)],
)
def test_images_that_do_not_arrive_leave_their_place(
    monkeypatch, event, status
):
    monkeypatch.setattr(service, "_PATIENCE", 0.05)
    app = service.Service(EarlyExitArtefact(card(), [session]), 8, 1).app()
    body = {"type": "http.request", "body": IMAGES[0].tobytes()}

    async def statuses(*events):
        found, events = [], iter(events)

        async def receive():
            if (event := next(events)) is None:
                await asyncio.sleep(30)
            return event

        async def send(message):
            found.append(message.get("status"))

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "query_string": b"",
            "headers": [],
        }
        await app(scope, receive, send)
        return found[0]

    first = {**body, "more_body": True}
    assert asyncio.run(statuses(first, event)) == status
    assert asyncio.run(statuses(body)) == 200


def test_artefacts_that_cannot_be_served_are_refused():
    with pytest.raises(ValueError, match="received 'exits'"):
        service.Service(Artefact(card("exits"), [session]))
    free = card(input_shape=(None, None, 3))
    with pytest.raises(ValueError, match="fixed size"):
        service.Service(EarlyExitArtefact(free, [session]))
