"""The sample archive: whole, seeded, and left alone where it is there already."""

import pytest

from cluster.archive.config import SampleConfig
from cluster.archive.sample import write_sample_archive
from cluster.storage import objects


def test_a_second_writing_changes_no_file(tmp_path):
    config = SampleConfig(output_url=str(tmp_path), num_pairs=3)
    first = write_sample_archive(config, [(64, 96)])
    before = objects.list_files(str(tmp_path))
    assert (first.num_pairs, first.num_written, len(before)) == (3, 6, 6)
    assert [f.path for f in objects.list_files(first.ir_url)] == [
        f.path for f in objects.list_files(first.vis_url)
    ]
    again = write_sample_archive(config, [(64, 96)])
    assert again.num_written == 0
    assert objects.list_files(str(tmp_path)) == before


@pytest.mark.parametrize(("pairs", "seed", "name"), [(0, 0, "--pairs"), (1, -1, "--seed")])
def test_a_wrong_number_is_named(pairs, seed, name):
    with pytest.raises(ValueError, match=name):
        SampleConfig(output_url="o", num_pairs=pairs, seed=seed)
