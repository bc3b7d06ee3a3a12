"""Fits simulators to sessions, writes them, and reads them back."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recomind.artifacts import (
    Manifest,
    NoLargerThan,
    load_tensors,
    loads,
    read_manifest,
    save_tensors,
    write_artifact,
)
from recomind.data import SessionDataset, load_catalogue
from recomind.errors import SchemaError
from recomind.ranker import Calibration, load_rankers, load_weights, quality, trunk_of
from recomind.simulation.config import Moving, Pessimism, SimulatorConfig
from recomind.simulation.dwell import LEAST_STEPS, DwellModel, fit_dwell
from recomind.simulation.effects import EffectsCatalogue, with_saved_effects
from recomind.simulation.moving import fit_moving, load_moving, save_moving
from recomind.simulation.recency import holdout_rows
from recomind.simulation.response import (
    SummaryNet,
    fit_exploring,
    fit_fatigue,
    fit_leave,
    summaries,
    task_couplings,
    with_learned_effects,
)
from recomind.simulation.simulator import LearnedSimulator, TreeSimulator, require_members
from recomind.simulation.states import state_from, state_tensors
from recomind.simulation.summary import SessionSummary
from recomind.simulation.tree_member import fit_member, load_member, save_member
from recomind.simulation.trees import TreeModels, fit_trees, with_tree_effects
from recomind.streams import make_generator
from recomind.types import Catalogue, Ranker, SessionState

KIND, HOLDOUT_KIND = "simulator", "holdout_simulator"
_STARTS, _DWELL = "starts.safetensors", "dwell.safetensors"
_FATIGUE = "gate"  # the fatigue networks' name in files and manifests, kept for older artifacts


def fit_simulator(
    folder: Path,
    rankers: Sequence[Ranker],
    dataset: SessionDataset,
    config: SimulatorConfig,
    manifest: Manifest,
    *,
    seed: int,
    rewarded: Collection[str] | None = None,
) -> dict[str, float]:
    """Fit fatigue, hazards, trees and dwell on the training users and write them.

    Args:
        folder: of the artifact.
        rankers: the ensemble.
        dataset: the sessions.
        config: settings.
        manifest: what the artifact will say of itself.
        seed: determines all randomness.
        rewarded: tasks that the reward weighs; all where None.

    Returns:
        Quality of the hazards on the test split.

    Raises:
        SchemaError: the logs hold no event of a training user, or no session starts.
        ConfigError: an uncertainty stop with a single ranker.
    """
    require_members(config.uncertainty_stop, len(rankers))
    rows = dataset.rows("train", holdout=False)
    if len(rows) == 0:
        raise SchemaError(
            "there are no events of training users to fit a simulator to",
            got=f"{dataset.num_rows()} events, none of the split train outside the hold-out",
            mend="provide more days, or lower data.holdout_share",
        )
    later = dataset.rows("calibration", holdout=False)
    if config.item_effects:
        dataset, of_items = with_learned_effects(rankers[0], dataset, rows, later, config, seed)
        manifest.metrics |= of_items
    fatigue_nets = [
        fit_fatigue(r, dataset, rows, later, config, seed + i)
        for i, r in enumerate(rankers if config.fatigue else [])
    ]
    exploring = config.calibrate_exploring
    calibrations = (
        fit_exploring(rankers, fatigue_nets, dataset, later, categories=config.item_categories)
        if exploring
        else []
    )
    hazards = [fit_leave(dataset, rows, later, config, seed + i) for i in range(len(rankers))]
    labels, moving = dataset.labels(rows), fit_moving(dataset, rows, later, config.moving_features)
    starts = _starts(dataset, dataset.session_starts("train", holdout=False), config, seed)
    test = dataset.rows("test", holdout=False)
    metrics = hazard_quality(hazards, dataset, test, config.item_categories)
    manifest.kind = KIND
    manifest.metrics |= metrics
    manifest.extra |= _extra(dataset, config) | {
        "couplings": task_couplings(labels),
        "num_members": len(rankers),
        "calibrated": bool(calibrations),
    }
    trees = fit_member(dataset, config, rewarded, seed)
    with write_artifact(folder, manifest) as staging:
        _save_states(staging / _STARTS, starts)
        save_moving(staging, moving, manifest)
        save_member(staging, trees, manifest)
        dwell = fit_dwell(dataset, rows, later, config, seed)
        save_tensors(staging / _DWELL, dwell.state_dict())
        if isinstance(dataset.catalogue, EffectsCatalogue):
            dataset.catalogue.save_effects(staging)
        for name, nets in (
            (_FATIGUE, fatigue_nets),
            ("hazard", hazards),
            ("response", calibrations),
        ):
            for index, net in enumerate(nets):
                save_tensors(staging / f"{name}_{index}.safetensors", net.state_dict())
    return metrics


@loads("simulator", mend="run `recomind fit-simulator` again")
def load_simulator(
    folder: Path,
    ranker_folder: Path,
    reward_weights: Mapping[str, float],
    *,
    pessimism: Pessimism | None = None,
    deviation_k: float | None = None,
) -> LearnedSimulator:
    """The training simulator on top of its ranker ensemble."""
    folder, extra = Path(folder), read_manifest(folder, KIND).extra
    config, rankers = SimulatorConfig(**_decoded(extra["config"])), load_rankers(ranker_folder)
    catalogue = with_saved_effects(folder, trunk_of(rankers).catalogue)
    summary = SessionSummary(catalogue, config.item_categories)
    shape = len(extra["tasks"]), extra["num_user_features"]
    fatigue_nets, hazards, calibrations = [], [], []
    with NoLargerThan(folder):
        for index in range(extra["num_members"]):
            hazards.append(SummaryNet(summary.size(*shape), 1, config.hidden))
            if config.fatigue:
                width = summary.size(*shape, shown=True)
                fatigue_nets.append(SummaryNet(width, len(extra["tasks"]), config.hidden))
                load_weights(fatigue_nets[-1], folder / f"{_FATIGUE}_{index}.safetensors")
            load_weights(hazards[-1], folder / f"hazard_{index}.safetensors")
            if extra["calibrated"]:
                calibrations.append(Calibration(len(extra["tasks"])))
                load_weights(calibrations[-1], folder / f"response_{index}.safetensors")
    return LearnedSimulator(
        rankers,
        [net.eval() for net in fatigue_nets] if config.fatigue else None,
        [h.eval() for h in hazards],
        calibrations=calibrations or None,
        trees=load_member(folder, extra, config.item_categories),
        pessimism=config.pessimism if pessimism is None else pessimism,
        deviation_k=config.deviation_k if deviation_k is None else deviation_k,
        uncertainty_stop=config.uncertainty_stop,
        item_categories=config.item_categories,
        catalogue=catalogue,
        starts=_load_states(folder / _STARTS),
        dwell=_load_dwell(folder / _DWELL, catalogue, config),
        couplings=extra["couplings"],
        reward_weights=reward_weights,
        horizon=config.horizon,
        moving=load_moving(folder, extra),
    )


def fit_holdout(
    folder: Path,
    dataset: SessionDataset,
    config: SimulatorConfig,
    manifest: Manifest,
    *,
    seed: int,
) -> dict[str, float]:
    """Fit the tree simulator to hold-out users, who trained no ranker; returns its quality.

    Sessions begin as on later days, and a quarter of the later days' events decides when the
    boosting stops.
    """
    rows, weights, later = holdout_rows(dataset)
    if config.item_effects:
        dataset, of_items = with_tree_effects(dataset, rows, later, seed)
        manifest.metrics |= of_items
    models = fit_trees(dataset, rows, later, seed, config.item_categories, weights)
    moving = fit_moving(dataset, rows, later, config.moving_features)
    starts = dataset.session_starts("calibration", "test", holdout=True)
    metrics = models.quality(dataset, later)
    manifest.kind = HOLDOUT_KIND
    manifest.metrics |= metrics
    manifest.extra |= _extra(dataset, config) | {
        "couplings": task_couplings(dataset.labels(rows)),
        "constants": models.constants,
    }
    with write_artifact(folder, manifest) as staging:
        _save_states(staging / _STARTS, _starts(dataset, starts, config, seed))
        save_moving(staging, moving, manifest)
        dwell = fit_dwell(dataset, rows, later, config, seed, LEAST_STEPS)
        save_tensors(staging / _DWELL, dwell.state_dict())
        models.save(staging)
        dataset.catalogue.save(staging)
    return metrics


@loads("hold-out simulator", mend="run `recomind fit-simulator` again")
def load_holdout(folder: Path, reward_weights: Mapping[str, float]) -> TreeSimulator:
    """The hold-out simulator."""
    folder, extra = Path(folder), read_manifest(folder, HOLDOUT_KIND).extra
    config, catalogue = SimulatorConfig(**_decoded(extra["config"])), load_catalogue(folder)
    catalogue = with_saved_effects(folder, catalogue)
    return TreeSimulator(
        TreeModels.load(folder, tuple(extra["tasks"]), extra["constants"], config.item_categories),
        catalogue=catalogue,
        starts=_load_states(folder / _STARTS),
        dwell=_load_dwell(folder / _DWELL, catalogue, config),
        couplings=extra["couplings"],
        reward_weights=reward_weights,
        horizon=config.horizon,
        moving=load_moving(folder, extra),
    )


@torch.no_grad()
def hazard_quality(
    hazards: Sequence[SummaryNet], dataset: SessionDataset, rows: Tensor, categories: bool = False
) -> dict[str, float]:
    """AUC, log-loss and ECE of the mean hazard, on events with a known outcome."""
    rows = rows[dataset.left_known(rows)]
    if len(rows) == 0:
        return {}
    inputs = summaries(dataset, rows, after=True, categories=categories)
    mean = torch.stack([net(inputs).sigmoid() for net in hazards]).mean(0)
    return quality(torch.logit(mean, 1e-6), dataset.left(rows).float()[:, None], ["leave"])


def _extra(dataset: SessionDataset, config: SimulatorConfig) -> dict[str, Any]:
    plain = dataclasses.asdict(config)
    plain["pessimism"] = config.pessimism.value
    plain["moving_features"] = config.moving_features.value
    plain[_FATIGUE] = plain.pop("fatigue")
    return {
        "tasks": list(dataset.tasks),
        "num_user_features": dataset.num_user_features,
        "user_feature_names": list(dataset.user_feature_names),
        "config": plain,
    }


def _decoded(config: Mapping[str, Any]) -> dict[str, Any]:
    # What earlier versions lack; they keep user features, which they have no file to move by.
    lacking = {"item_categories": False, "tree_member": False, "moving_features": "freeze"}
    plain = lacking | dict(config)
    plain["pessimism"] = Pessimism(plain["pessimism"])
    plain["moving_features"] = Moving(plain["moving_features"])
    plain["fatigue"] = plain.pop(_FATIGUE)
    return plain


def _starts(
    dataset: SessionDataset, rows: Tensor, config: SimulatorConfig, seed: int
) -> SessionState:
    if len(rows) == 0:
        raise SchemaError(
            "there is no session to begin from", mend="check the splits of the sessions"
        )
    chosen = torch.randperm(len(rows), generator=make_generator(seed))[: config.max_start_states]
    return dataset.state(rows[chosen.sort().values])


def _save_states(path: Path, states: SessionState) -> None:
    save_tensors(path, state_tensors(states))


def _load_states(path: Path) -> SessionState:
    return state_from(load_tensors(path))


def _load_dwell(path: Path, catalogue: Catalogue, config: SimulatorConfig) -> DwellModel:
    num_codes, num_quantiles = load_tensors(path)["quantiles_CQ"].shape
    with NoLargerThan(path.parent):
        model = DwellModel(
            len(catalogue.dense_names), num_codes.bit_length() - 1, num_quantiles, config.hidden
        )
    load_weights(model, path)
    return model.eval()
