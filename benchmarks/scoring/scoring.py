"""Scoring K candidates of a state: against repeating the state, against the products alone.

Symbols: `B` states, `L` history events, `K` candidates.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from products import Product, products_of
from setting import make_candidates, make_ranker, make_states
from timing import alternate, milliseconds, ratio
from torch import Tensor

from experiments.result import figure, write_result
from recomind.ranker import SessionRanker
from recomind.streams import make_generator
from recomind.types import SessionState

HERE = Path(__file__).parent
SEED = 0
TOLERANCE = 1e-5  # of a logit, between scoring once and repeating the state


@dataclass(kw_only=True, slots=True)
class Case:
    """One size at which scoring is compared with repeating the state."""

    suffix: str
    length: int  # L
    num_states: int  # B, scored at once
    num_candidates: int  # K
    num_repeated: int  # states of them that are repeated, K times each
    chunk: int  # repeated states that are encoded at once
    num_runs: int


CASES = (
    Case(
        suffix="k100",
        length=200,
        num_states=64,
        num_candidates=100,
        num_repeated=4,
        chunk=64,
        num_runs=11,
    ),
    Case(
        suffix="k1000",
        length=200,
        num_states=16,
        num_candidates=1000,
        num_repeated=1,
        chunk=64,
        num_runs=7,
    ),
    Case(
        suffix="k100_l1000",
        length=1000,
        num_states=16,
        num_candidates=100,
        num_repeated=2,
        chunk=32,
        num_runs=7,
    ),
    Case(
        suffix="k100_l16384",
        length=16_384,
        num_states=4,
        num_candidates=100,
        num_repeated=1,
        chunk=4,
        num_runs=5,
    ),
)
OVER_MATMUL_RUNS = 31
PRODUCTS_ONLY = "--products-only"
# glibc gives large results back to the system and gets each anew, page by page, unless told to
# keep them; it reads these when a process starts.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}


def once(ranker: SessionRanker, state: SessionState, item_id: Tensor) -> Tensor:
    """Logits [B, K, H]: each state encoded once."""
    return ranker.score(ranker.encode_state(state), item_id)


def repeated(ranker: SessionRanker, state: SessionState, item_id: Tensor, chunk: int) -> Tensor:
    """The same, each state encoded anew for each of its candidates, `chunk` of them at a time."""
    num, num_candidates = item_id.shape
    rows = torch.arange(num).repeat_interleave(num_candidates)
    of_chunks = [
        once(ranker, state[rows_c], items_c[:, None])
        for rows_c, items_c in zip(rows.split(chunk), item_id.flatten().split(chunk), strict=True)
    ]
    return torch.cat(of_chunks).view(num, num_candidates, -1)


def dedup_figures(case: Case) -> tuple[dict[str, Any], float]:
    """Speed-up and milliseconds of one case, and the largest difference of a logit."""
    ranker, generator = make_ranker(case.length, SEED), make_generator(SEED)
    state = make_states(case.num_states, case.length, generator)
    item_id = make_candidates(case.num_states, case.num_candidates, generator)
    few = case.num_repeated
    ways = {
        "once": lambda: once(ranker, state, item_id),
        "repeated": lambda: repeated(ranker, state[:few], item_id[:few], case.chunk),
    }
    difference = float((ways["once"]()[:few] - ways["repeated"]()).abs().max())
    seconds = alternate(ways, num_runs=case.num_runs, num_warm_up=1)
    scale = case.num_states / few
    return {
        f"dedup_speedup_{case.suffix}": ratio(seconds["repeated"], seconds["once"], scale),
        f"ms_per_decision_{case.suffix}": milliseconds(seconds["once"], case.num_states),
        f"ms_per_decision_repeated_{case.suffix}": milliseconds(seconds["repeated"], few),
        f"max_abs_difference_{case.suffix}": figure(difference, unit="logit"),
    }, difference


def over_matmul_figures(case: Case) -> dict[str, Any]:
    """Time of a decision over that of its matrix products alone."""
    ranker, generator = make_ranker(case.length, SEED), make_generator(SEED)
    state = make_states(case.num_states, case.length, generator)
    item_id = make_candidates(case.num_states, case.num_candidates, generator)
    encoding = ranker.encode_state(state)
    products = products_of(ranker, case.num_states, case.num_candidates)
    ways = {
        "once": lambda: once(ranker, state, item_id),
        "encode": lambda: ranker.encode_state(state),
        "score": lambda: ranker.score(encoding, item_id),
        "products": lambda: _all_fresh(products),
        "into": lambda: _all_into(products),
    }
    seconds = alternate(ways, num_runs=OVER_MATMUL_RUNS)
    num, suffix = case.num_states, case.suffix
    return {
        f"over_matmul_{suffix}": ratio(seconds["once"], seconds["products"]),
        f"over_matmul_preallocated_{suffix}": ratio(seconds["once"], seconds["into"]),
        f"ms_encode_{suffix}": milliseconds(seconds["encode"], num),
        f"ms_score_{suffix}": milliseconds(seconds["score"], num),
        f"ms_products_{suffix}": milliseconds(seconds["products"], num),
        f"ms_products_preallocated_{suffix}": milliseconds(seconds["into"], num),
    }


def _all_fresh(products: list[Product]) -> None:
    for product in products:
        product.fresh()


def _all_into(products: list[Product]) -> None:
    for product in products:
        product.into()


def against_products() -> dict[str, Any]:
    """The figures of both sizes against their products."""
    return over_matmul_figures(CASES[0]) | over_matmul_figures(CASES[1])


def against_products_keeping_memory() -> dict[str, Any]:
    """The same in a process whose allocator keeps the memory that it once got."""
    command = [sys.executable, __file__, PRODUCTS_ONLY]
    environment = os.environ | KEEP_MEMORY
    found = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    figures = json.loads(found.splitlines()[-1])
    return {f"keeping_memory.{name}": entry for name, entry in figures.items()}


def against_repeating() -> dict[str, Any]:
    """The figures of all sizes against repeating the state, and that both ways agree."""
    figures: dict[str, Any] = {}
    differences = []
    for case in CASES:
        found, difference = dedup_figures(case)
        figures |= found
        differences.append(difference)
    if not max(differences) <= TOLERANCE:
        raise SystemExit(f"repeating the state differs by {max(differences)}, > {TOLERANCE}")
    return figures | {"max_abs_difference": figure(max(differences), unit="logit")}


def main() -> None:
    """Measure, check that both ways agree, write."""
    torch.set_num_threads(1)
    with torch.no_grad():
        if PRODUCTS_ONLY in sys.argv:
            print(json.dumps(against_products()))
            return
        figures = against_products() | against_products_keeping_memory() | against_repeating()
    for name, entry in figures.items():
        print(f"{name:52s} {entry['value']:.4g} {entry['unit']}", flush=True)
    write_result(HERE, "benchmarks/scoring/run", figures, seeds=[SEED])


if __name__ == "__main__":
    main()
