"""`recomind serve`: the exported scorer of a run behind HTTP, on loopback by default."""

from __future__ import annotations

from recomind.artifacts import is_complete
from recomind.pipeline import Round
from recomind.serving.app import serve_forever


def run(round: Round) -> None:
    """Serve `export/` with the index of the round that it came from, until interrupted."""
    config, folder = round.config, round.run.folder / "export"
    index = (round.run.exported or round).path(round.run.policy_index)
    serve_forever(
        folder,
        config.serving,
        index_folder=index if is_complete(index) else None,
        candidates=config.candidates,
        on_ready=lambda address: print(f"serving at {address}; POST /rank, GET /healthz"),
    )
