"""The simulation of benchmarks/scale.py agrees with what can be computed by hand."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "scale.py"


@pytest.fixture(scope="module")
def scale():
    spec = importlib.util.spec_from_file_location("scale", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(scale, **changed):
    options = {"actors": 1, "io_slots": 1000, "read_s": [0.02], "model_s": [0.5], "write_s": [0.03],
               "driver_s": 0.001}  # fmt: skip
    return scale.simulate(**options | changed)


# Rates may be off by what is under way when counting begins and ends: below 1 % of the windows.


def test_one_actor_is_limited_by_its_model(scale):
    steady = run(scale)
    assert steady.pairs_per_s == pytest.approx(1 / 0.5, rel=0.01)
    assert steady.busy["actors"] == pytest.approx(1, rel=0.01)
    assert steady.limit == "actors"


def test_actors_whose_times_vary_are_limited_by_their_mean(scale):
    steady = run(scale, actors=10, model_s=[0.4, 0.5, 0.6], windows=20_000)
    assert steady.pairs_per_s == pytest.approx(10 / 0.5, rel=0.01)
    assert steady.limit == "actors"


def test_a_slow_driver_limits_a_hundred_actors(scale):
    steady = run(scale, actors=100, driver_s=0.1, windows=20_000)
    assert steady.pairs_per_s == pytest.approx(1 / 0.1, rel=0.01)
    assert steady.busy["actors"] == pytest.approx(10 * 0.5 / 100, rel=0.01)
    assert steady.limit == "driver"


@pytest.mark.parametrize("io_slots", [1, 4])
def test_too_few_slots_limit_what_is_read_and_written(scale, io_slots):
    steady = run(scale, actors=100, io_slots=io_slots, windows=20_000)
    assert steady.pairs_per_s == pytest.approx(io_slots / (0.02 + 0.03), rel=0.01)
    assert steady.limit == "reading and writing"


def test_the_storage_moves_no_more_than_its_bandwidth(scale):
    steady = run(scale, actors=100, io_slots=50, pair_mb=2.0, mb_per_s=50.0, windows=20_000)
    assert steady.pairs_per_s == pytest.approx(50 / 2, rel=0.01)
    assert steady.limit == "storage"


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(scale):
    first, again, other = (run(scale, model_s=[0.4, 0.7], seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
