"""Serve a deployed model over HTTP.

    python -m apps.serve --artefact=runs/x/litert_early_exit --port=8000

    curl --data-binary @image.raw localhost:8000/predict

`apps.service` says what requests look like. It listens on this computer alone
unless --host says otherwise, and knows neither users nor encryption, nor does
it close connections that stay silent, which count to --max_connections: put a
proxy that does in front of it.
"""

from absl import flags

from . import command


def main():
    """Serve as the flags say."""
    command.prepare_keras()
    import keras_neokd

    chosen = flags.FLAGS
    try:
        import uvicorn

        from . import service
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette", "anyio"):
            raise
        raise ImportError(
            f"Serving needs {error.name}, which is not installed: run "
            '`pip install "keras-neokd[serve]"`.'
        ) from None
    artefact = keras_neokd.load_artefact(chosen.artefact, chosen.num_threads)
    app = service.Service(artefact, chosen.max_images, chosen.max_waiting).app()
    uvicorn.run(
        app,
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        limit_concurrency=chosen.max_connections,
        timeout_keep_alive=5,
    )


if __name__ == "__main__":
    flags.DEFINE_string(
        "artefact", None, "Folder that apps.export wrote, with a policy."
    )
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.")
    flags.DEFINE_integer("port", 8000, "Port to listen on.", 1, 65535)
    flags.DEFINE_integer(
        "num_threads", None, "Threads that compute.", lower_bound=1
    )
    flags.DEFINE_integer(
        "max_images", 64, "Most images of a request.", lower_bound=1
    )
    flags.DEFINE_integer(
        "max_waiting",
        64,
        "Most requests that arrive, wait or are computed.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "max_connections", 256, "Most connections.", lower_bound=1
    )
    flags.mark_flag_as_required("artefact")
    command.run(main)
