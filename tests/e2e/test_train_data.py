"""The order and the crops that a training worker takes from Ray Data."""

import pytest
import ray.data
import torch

from cluster.runtime.session import ray_session
from cluster.training.config import TrainConfig
from cluster.training.crops import crop_batches, decode_pair
from tests.e2e.archives import write_archive
from tests.e2e.shared_ray import joined_by_this_process

OPTIONS = {"index_urls": ("i.csv",), "output_url": "o"}


@pytest.fixture(scope="module")
def shard(shared_ray, tmp_path_factory):
    """Seven decoded pairs, as Ray Data gives them to a worker."""
    folder = tmp_path_factory.mktemp("archive")
    names = write_archive(str(folder), 7)
    urls = [{f"{side}_url": f"{folder}/{side}/{name}.png" for side in ("ir", "vis")} for name in names]
    rows = [decode_pair({"pair_id": name, **pair}) for name, pair in zip(names, urls, strict=True)]
    options = ray.data.DataContext.get_current().execution_options
    with joined_by_this_process({}), ray_session(1):
        options.preserve_order = True
        yield ray.data.from_items(rows, override_num_blocks=3).iterator()
        options.preserve_order = False


def test_each_epoch_takes_every_pair_in_another_order_that_the_seed_decides(shard):
    def epoch(number, seed=0, **options):
        config = TrainConfig(**OPTIONS, crop_sides=(32,), batch_size=1, seed=seed, **options)
        batches = list(crop_batches(shard, config, 7, epoch=number))
        return [name for names, *_ in batches for name in names], [ir for _, ir, _ in batches]

    every = [f"day/{number:03d}" for number in range(7)]
    first, crops = epoch(0)
    assert sorted(first) == every and first != every
    assert first != epoch(1)[0] and first != epoch(0, seed=1)[0]
    same, same_crops = epoch(0)
    assert same == first and all(map(torch.equal, crops, same_crops))
    of_pair = dict(zip(*epoch(1), strict=True))
    assert not any(torch.equal(of_pair[name], crop) for name, crop in zip(first, crops, strict=True))
    twice, _ = epoch(0, crops_per_pair=2)
    assert sorted(twice[:7]) == sorted(twice[7:]) == every and twice[:7] != twice[7:]


def test_steps_of_several_crop_sizes_hold_about_as_many_pixels_and_all_workers_take_one_size(shard):
    config = TrainConfig(**OPTIONS, crop_sides=(64, 32), batch_size=2, crops_per_pair=6)
    first, second = (
        [ir for _, ir, _ in crop_batches(shard, config, 14, epoch=0, rank=rank, world=2)]
        for rank in (0, 1)
    )
    assert {tuple(ir.shape) for ir in first} == {(1, 1, 64, 64), (4, 1, 32, 32)}
    assert [ir.shape for ir in first] == [ir.shape for ir in second]
    assert not any(map(torch.equal, first, second))  # of the same pairs here, at other places
