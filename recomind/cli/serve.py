"""`recomind serve`: the exported scorer of a run behind HTTP, on loopback by default."""

from __future__ import annotations

from recomind.artifacts import is_complete
from recomind.cli.context import Run
from recomind.cli.export import exported_round


def run(run: Run, round_index: int) -> None:
    """Serve `export/` with the index of the round that it came from, until interrupted."""
    from recomind.serving.app import serve_forever

    index = run.path(run.policy_index, exported_round(run, round_index))
    serve_forever(
        run.folder / "export",
        run.config.serving,
        index_folder=index if is_complete(index) else None,
        candidates=run.config.candidates,
        on_ready=lambda address: print(f"serving at {address}; POST /rank, GET /healthz"),
    )
