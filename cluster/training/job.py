"""The training job: DMNet's two stages on Ray Train, from pair indexes to weights.

    load_index - hold out - decode_pair (Ray Data) -> train_loop on every worker (Ray Train)

Stage I trains the autoencoder and DM separately, stage II trains the complete network from the weights of
stage I. The same command resumes from the checkpoint of the last epoch, whatever ended the run before.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from cluster.archive.pair_index import READ, load_index
from cluster.runtime.address import check_cluster
from cluster.storage import objects, s3, urls
from cluster.storage.config_urls import with_absolute_urls, without_secrets
from cluster.storage.tables import Database
from cluster.training.config import TrainConfig
from cluster.training.crops import crops_at, decode_pair
from dmnet_core.checkpoint import load_checkpoint

if TYPE_CHECKING:
    import ray.data
    import ray.train.torch

Row = dict[str, Any]
RUN_NAME = "ray"
"""Name of the folder below the output that holds Ray Train's checkpoints."""
MAX_FAILURES = 3
"""Number of worker failures after which a run is given up."""
NUM_CHECKPOINTS = 2
"""Number of checkpoints that Ray Train keeps."""
PAIRS_PER_BLOCK = 16
"""Least number of pairs that one task decodes."""
MAX_SAID = 5
"""Largest number of unreadable pairs that are printed with their reasons."""
FIXED = ("preset", "without", "seed", "validation_pairs", "index_urls")
"""Settings that must not change when a training is resumed."""


@dataclass(frozen=True)
class TrainingReport:
    """Result of a training."""

    history: pd.DataFrame
    """Losses, metrics and timings, one row for each epoch of all runs."""
    num_pairs: int
    """Number of pairs that were trained on."""
    urls: dict[str, str]
    """URLs of the outputs, by name."""
    problem: str
    """Why the training counts as failed; empty where it succeeded."""


def train_dmnet(config: TrainConfig) -> TrainingReport:
    """Train, or resume a training, until its epochs, steps or minutes are used up.

    Raises:
        ValueError, OSError: an input, a setting or a URL is wrong; one line.
    """
    config = with_absolute_urls(config)
    pairs = pd.concat([load_index(url)[0] for url in config.index_urls], ignore_index=True)
    pairs = pairs[[*READ]]
    held_out, rest = hold_out(pairs, config)
    _check_start(config)
    check_cluster()  # before anything is written
    _check_same_training(config)
    written = {
        name: urls.join_url(config.output_url, file)
        for name, file in {
            "weights": "dmnet.safetensors",
            "history": "history.csv",
            "panel": "panel.png",
            "tensorboard": "tensorboard",
        }.items()
    }
    not_finite_url = urls.join_url(config.output_url, "not_finite.json")
    objects.delete(not_finite_url)
    num_pairs = _run(config, rest, held_out, _read_history(written["history"]))
    problem = ""
    if objects.exists(not_finite_url):
        note = json.loads(objects.read_bytes(not_finite_url))
        problem = (
            f"training stopped at step {note['step']} (stage {note['stage']}): the loss of pairs "
            f"{', '.join(map(repr, note['pair_ids']))} is not finite, expected a number: look at these "
            "pairs, lower --learning-rate, or give --clip 1; the same command goes on from the epoch "
            "before"
        )
    return TrainingReport(_read_history(written["history"]), num_pairs, written, problem)


def hold_out(pairs: pd.DataFrame, config: TrainConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the validation pairs and the other pairs; the choice depends on pair ids and seed only."""
    order = [sha256(f"{config.seed}/{name}".encode()).digest() for name in pairs["pair_id"]]
    shuffled = sorted(range(len(pairs)), key=order.__getitem__)
    held_out, rest = shuffled[: config.validation_pairs], sorted(shuffled[config.validation_pairs :])
    if not rest:
        raise ValueError(
            f"the index has {len(pairs)} pairs, expected more than --validation-pairs "
            f"({config.validation_pairs})"
        )
    return pairs.iloc[held_out], pairs.iloc[rest]


def _check_start(config: TrainConfig) -> None:
    """Refuse weights that do not fit, or are missing, before any worker starts."""
    if config.checkpoint_url is None:
        alone = not config.epochs[0] and "two-stage" not in config.without
        if alone and not objects.exists(urls.join_url(config.output_url, "history.csv")):
            raise ValueError(
                "stage II alone (--epochs 0 N) has nothing to begin with, expected the weights of stage "
                "I: give --checkpoint, or the --output where stage I was trained, or --without two-stage"
            )
        return
    from cluster.training.loop import network_config

    name = urls.redact_url(config.checkpoint_url)
    try:
        given = load_checkpoint(objects.read_bytes(config.checkpoint_url)).model.config
    except FileNotFoundError as error:
        raise ValueError(f"--checkpoint {name!r} is not there, expected .safetensors") from error
    wanted = network_config(config)
    if given != wanted:
        raise ValueError(
            f"--checkpoint {name!r} is of another network ({given}), expected {wanted}: give the "
            "--preset and --without that it was trained with"
        )


def _check_same_training(config: TrainConfig) -> None:
    """Refuse to go on with another training than the one that the output holds."""
    url = urls.join_url(config.output_url, "training.json")
    settings = without_secrets(config)
    wanted = {name: settings[name] for name in FIXED}
    if not objects.exists(url):
        objects.put_bytes(url, json.dumps(wanted, indent=1).encode())
        return
    stored = json.loads(objects.read_bytes(url))
    for name, value in wanted.items():
        if stored.get(name) != value:
            raise ValueError(
                f"--output {urls.redact_url(config.output_url)!r} holds a training whose {name} is "
                f"{stored.get(name)!r}, but now it is {value!r}: give another --output"
            )


def _run(
    config: TrainConfig, pairs: pd.DataFrame, held_out: pd.DataFrame, history: pd.DataFrame
) -> int:
    """Start Ray, decode and train; return how many pairs were trained on."""
    import ray.data
    import ray.train

    from cluster.runtime.session import ray_session
    from cluster.training.epoch_lines import EpochLines

    claimed = config.num_workers * config.cpus_per_worker
    with ray_session(claimed):
        ray.data.DataContext.get_current().execution_options.preserve_order = True  # the seed decides
        datasets, counts = _datasets(config, pairs, held_out)
        with EpochLines(last_epoch=len(history)) as lines:
            try:
                _trainer(config, datasets, {**counts, "epoch_rows": lines.queue}).fit()
            except ray.train.TrainingFailedError as error:
                raise ValueError(f"training failed: {' '.join(str(error).split())[-600:]}") from error
    return counts["num_pairs"]


def _datasets(
    config: TrainConfig, pairs: pd.DataFrame, held_out: pd.DataFrame
) -> tuple[dict[str, ray.data.Dataset], dict[str, int]]:
    """Decode all pairs; return what `train_loop` reads, and its num_pairs and num_held_out."""
    todo_url = urls.join_url(config.output_url, "todo")
    trained, num_pairs = _decode(pairs, "trained", f"{todo_url}-trained")
    validated, num_held_out = _decode(held_out, "validated", f"{todo_url}-validated")
    if not num_pairs:
        raise ValueError("no pair of the index can be read, expected images: see the lines above")
    least = crops_at(max(config.crop_sides), config, world=1)
    if num_pairs * config.crops_per_pair < least:
        raise ValueError(
            f"an epoch of {num_pairs} pairs has fewer crops than a step ({least}): lower "
            "--batch-size or raise --crops-per-pair"
        )
    # Materialized, so that what they were made of can be dropped.
    datasets = {"train": trained.repartition(max(8, 2 * config.num_workers)).materialize()}
    if num_held_out:
        datasets["validation"] = validated.materialize()
    print(
        f"{num_pairs} pairs to train on, {num_held_out} held out (--validation-pairs), "
        f"{len(pairs) + len(held_out) - num_pairs - num_held_out} unreadable",
        flush=True,
    )
    return datasets, {"num_pairs": num_pairs, "num_held_out": num_held_out}


def _trainer(
    config: TrainConfig, datasets: dict[str, ray.data.Dataset], options: Row
) -> ray.train.torch.TorchTrainer:
    """Return the trainer of a run, whose checkpoints lie below the output."""
    import ray.train
    from ray.train.torch import TorchTrainer

    from cluster.training.loop import train_loop

    filesystem, path = s3.arrow_filesystem(config.output_url)
    return TorchTrainer(
        train_loop,
        train_loop_config={"config": config, **options},
        datasets=cast(Any, datasets),
        dataset_config=ray.train.DataConfig(datasets_to_split=["train"]),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": 1, **({"GPU": 1} if config.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=RUN_NAME,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=NUM_CHECKPOINTS),
        ),
    )


def _decode(pairs: pd.DataFrame, used: str, url_prefix: str) -> tuple[ray.data.Dataset, int]:
    """Decode pairs; return the readable ones and their number, and print which can't be read.

    Args:
        pairs: the columns READ of the pair index, one row for each pair.
        used: "trained" or "validated", for the message.
        url_prefix: beginning of the URLs where the rows wait until they are decoded.
    """
    from ray.data.expressions import col

    from cluster.runtime.datasets import dataset_of

    with Database() as database:
        database.add("pairs", pairs[[*READ]])
        with dataset_of(
            database, "from pairs", url_prefix, least_per_block=PAIRS_PER_BLOCK, num_cpus=1
        ) as named:
            decoded = named.map(cast(Any, decode_pair), num_cpus=1).materialize()
    reason = col("reason")
    bad = decoded.filter(expr=reason != "").select_columns(["pair_id", "reason"]).take_all()
    for row in bad[:MAX_SAID]:
        print(f"  not {used} on: {row['pair_id']!r}: {row['reason']}", flush=True)
    return decoded.filter(expr=reason == ""), len(pairs) - len(bad)


def _read_history(url: str) -> pd.DataFrame:
    try:
        return pd.read_csv(io.BytesIO(objects.read_bytes(url)))
    except FileNotFoundError:
        return pd.DataFrame()
