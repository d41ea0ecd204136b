"""Command lines: made from the configs, answered without heavy libraries, wrong ones in one line."""

import importlib
import re
import subprocess
import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

import pytest

from cluster.archive.config import IndexConfig, SampleConfig
from cluster.evaluating.config import EvaluateConfig
from cluster.exporting.config import ExportConfig
from cluster.fusing.config import FuseConfig
from cluster.fusing.lease import LeaseHeld
from cluster.reporting.config import ReportConfig
from cluster.storage.config_urls import with_absolute_urls, without_secrets
from cluster.text.job_main import parse_config, run
from cluster.text.options import URL_FIELDS, check_options, flag_of, option, options_of
from cluster.training.config import TERMS, TrainConfig

ROOT = Path(__file__).resolve().parents[2]
JOBS = {
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "fuse_archive": FuseConfig,
    "index_archive": IndexConfig,
    "make_sample": SampleConfig,
    "report": ReportConfig,
    "train_dmnet": TrainConfig,
}
REQUIRED = {
    "evaluate": ["--index", "i.csv", "--output", "o"],
    "export": ["--fused", "f", "--output", "o"],
    "fuse_archive": ["--index", "i.csv", "--output", "o"],
    "index_archive": ["--ir", "a", "--vis", "b", "--output", "o.csv"],
    "make_sample": ["--output", "o"],
    "report": ["--output", "o"],
    "train_dmnet": ["--index", "i.csv", "--output", "o"],
}
HEAVY = {"torch", "ray", "pyarrow", "pandas", "numpy", "fsspec", "zarr", "duckdb", "PIL"}


def parse(job, *arguments):
    return importlib.import_module(f"jobs.{job}").parse_arguments([*arguments])


def shown_help(job, monkeypatch, capsys):
    """Return the help as {flag: (group, text on one line)}, and the list of flags as they stand."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="^0$"):
        parse(job, "--help")
    found, flags, group = {}, [], ""
    for line in capsys.readouterr().out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            group = line[:-1]
        elif match := re.match(r"  (?:-h, )?(--[\w-]+)", line):
            flags.append(match[1])
            found[match[1]] = (group, "")
        elif flags and line.strip():
            text = " ".join([found[flags[-1]][1], line.strip()]).strip()
            found[flags[-1]] = (found[flags[-1]][0], text)
    return found, flags


def refusal(job, capsys, *arguments):
    """Return what a refused command line puts on standard error."""
    with pytest.raises(SystemExit, match="^2$"):
        parse(job, *arguments)
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


@pytest.mark.parametrize("job", JOBS)
def test_help_loads_none_of_the_heavy_libraries(job):
    """By what is imported, not by the clock: these libraries are what took seconds."""
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", f"jobs/{job}.py", "--help"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    names = [line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()]
    assert "cluster.text.options" in names, "importtime no longer lists modules"
    assert not HEAVY & {name.partition(".")[0] for name in names}
    assert answer.stdout.startswith(f"usage: {job} ")


@pytest.mark.parametrize("job", JOBS)
def test_a_wrong_option_of_a_process_ends_in_one_line(job):
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", f"jobs/{job}.py", *REQUIRED[job], "--no-such-option"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    lines = answer.stderr.splitlines()
    said = [line for line in lines if not line.startswith("import time:")]
    assert answer.returncode == 2 and answer.stdout == ""
    assert said == [f"{job}: unrecognized arguments: --no-such-option (--help lists every option)"]
    assert not HEAVY & {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("job", JOBS)
def test_every_option_stands_in_the_help_once_in_a_group_and_in_sentences(job, monkeypatch, capsys):
    found, flags = shown_help(job, monkeypatch, capsys)
    expected = [flag_of(of) for of, _ in options_of(JOBS[job])]
    assert sorted(flags) == sorted([*expected, "--help"])
    for of, told in options_of(JOBS[job]):
        group, text = found[flag_of(of)]
        assert group == told.group != ""
        assert text.startswith(" ".join(told.help.split()))
        assert re.match(r"[A-Z]", told.help) and told.help.endswith("."), told.help


@pytest.mark.parametrize("job", JOBS)
def test_every_field_of_a_config_is_an_option(job):
    options = {of.name for of, _ in options_of(JOBS[job])}
    assert options == JOBS[job].__dataclass_fields__.keys()


@pytest.mark.parametrize("job", JOBS)
def test_the_defaults_in_the_help_are_those_of_the_config(job, monkeypatch, capsys):
    found, _ = shown_help(job, monkeypatch, capsys)
    for of, told in options_of(JOBS[job]):
        _, text = found[flag_of(of)]
        default = re.search(r" Default: (.*)\.$", text)
        if of.default is MISSING or isinstance(of.default, bool):
            assert not default, text
        elif of.default in (None, ()):
            assert (default[1] if default else "") == told.unset
        else:
            words = default[1].split()
            assert getattr(parse(job, *REQUIRED[job], flag_of(of), *words), of.name) == of.default


@pytest.mark.parametrize(
    ("job", "given"),
    [
        ("evaluate", {"index_url": "i.csv", "output_url": "o"}),
        ("export", {"fused_url": "f", "output_url": "o"}),
        ("fuse_archive", {"index_url": "i.csv", "output_url": "o"}),
        ("index_archive", {"ir_url": "a", "vis_url": "b", "output_url": "o.csv"}),
        ("make_sample", {"output_url": "o"}),
        ("train_dmnet", {"index_urls": ("i.csv",), "output_url": "o"}),
    ],
)
def test_a_command_line_of_required_options_is_the_config_s_defaults(job, given):
    assert parse(job, *REQUIRED[job]) == JOBS[job](**given)


def test_values_of_every_kind_come_through():
    fuse = parse(
        "fuse_archive", "--ir", "a", "--vis", "b", "--output", "o", "--partition", "2/3", "--limit", "7",
        "--gpus-per-actor", ".5", "--precision", "bf16", "--dry-run", "--ir-range", "-40:120",
        "--ir-bands", "04", "--vis-bands", "3, 2,1", "--resample",
    )  # fmt: skip
    assert (fuse.ir_url, fuse.vis_url, fuse.index_url) == ("a", "b", None)
    assert (fuse.partition, fuse.limit, fuse.gpus_per_actor) == ((2, 3), 7, 0.5)
    assert (fuse.dry_run, fuse.wait, fuse.ir_range) == (True, False, "-40:120")
    assert (fuse.ir_bands, fuse.vis_bands, fuse.resample) == ("4", "3,2,1", True)
    train = parse(
        "train_dmnet", "--index", "a.csv", "b.parquet", "--output", "o", "--epochs", "0", "5",
        "--crop", "64", "32", "--without", "dm", "csab", "--gpu",
    )  # fmt: skip
    assert train.index_urls == ("a.csv", "b.parquet") and train.epochs == (0, 5)
    assert train.crop_sides == (64, 32) and train.without == ("dm", "csab") and train.use_gpu
    scored = parse(
        "evaluate", "--index", "i.csv", "--output", "o", "--fused", "a=b=c", "d=e", "--no-references"
    )
    assert scored.fused_urls == (("a", "b=c"), ("d", "e")) and not scored.references


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("fuse_archive", ["--actors", "many"], "--actors is 'many', expected a whole number"),
        ("fuse_archive", ["--actors", "0"], "--actors is 0, expected a number from 1 to 100,000"),
        ("fuse_archive", ["--actors"], "--actors: expected one argument"),
        ("fuse_archive", ["--act", "2"], "unrecognized arguments: --act 2"),
        ("fuse_archive", ["--max-rejected", "nan"], "--max-rejected is nan, expected a number from 0"),
        ("fuse_archive", ["--precision", "odd"], "--precision is 'odd', expected one of fp32, bf16"),
        ("fuse_archive", ["--partition", "3"], "--partition is '3', expected K/N"),
        ("fuse_archive", ["--partition", "3/2"], "--partition is 3/2, expected K/N"),
        ("train_dmnet", ["--epochs", "1"], "--epochs: expected 2 arguments"),
        ("train_dmnet", ["--epochs", "0", "0"], "--epochs is 0 0"),
        ("train_dmnet", ["--crop", "64", "x"], "--crop is 'x', expected a whole number"),
        ("train_dmnet", ["--without", "unet"], "--without is 'unet', expected one of dtb, dib"),
        ("train_dmnet", ["--warm-up", "-5"], "--warm-up is -5, expected a number from 0"),
        ("evaluate", ["--fused", "a"], "--fused is 'a=', expected NAME=URL"),
        ("export", ["--format", "gif"], "--format is 'gif', expected one of png, jpeg, tiff"),
        ("export", ["--quality", "80"], "--quality is 80 and --format is png, expected --format jpeg"),
        ("export", ["--format", "jpeg", "--quality", "0"], "--quality is 0, expected a number from 1"),
        ("export", ["--where", " "], "--where is empty, expected an SQL condition"),
        ("fuse_archive", ["--ir-bands", "1,2"], "--ir-bands is '1,2', expected the number of one band"),
        ("index_archive", ["--cameras", "c.txt"], "--cameras is 'c.txt', expected a name that ends in"),
        ("index_archive", ["--ir-pattern", "x"], "--ir-pattern is 'x', expected the text '{id}'"),
        ("index_archive", ["--stac", "i.json"], "--ir --vis --stac was given, expected both --ir URL"),
        ("make_sample", ["--pairs", "0"], "--pairs is 0, expected a number from 1"),
    ],
)
def test_a_wrong_value_ends_in_one_line_that_names_the_option(capsys, job, arguments, message):
    told = refusal(job, capsys, *REQUIRED[job], *arguments)
    assert told.startswith(f"{job}: ") and message in told
    assert told.count("\n") == 1 and told.endswith("\n")


def test_a_missing_option_is_named(capsys):
    assert "required: --index, --output" in refusal("train_dmnet", capsys)


def test_a_refused_command_line_shows_no_secret(capsys):
    assert "hunter2" not in refusal("make_sample", capsys, "s3://key:hunter2@bucket/o")
    url = "s3://key:hunter2@bucket/o"
    assert "hunter2" not in refusal("evaluate", capsys, "--index", url, "--output", "o")


@dataclass(frozen=True, kw_only=True)
class Small:
    """A config with one option."""

    num_parts: int = option("Number of parts.", "input", default=1, metavar="N", bounds=(1, 9))

    def __post_init__(self):
        check_options(self)


def test_a_config_made_in_python_is_held_to_the_same_values():
    with pytest.raises(ValueError, match="--parts is 10, expected a number from 1 to 9"):
        Small(num_parts=10)


@pytest.mark.parametrize(
    ("ends", "code", "line"),
    [
        ("", 0, ""),
        ("3 of 4 pairs\nare missing", 1, "small: 3 of 4 pairs are missing\n"),
        (ValueError("s3://key:hunter2@b/x is wrong"), 2, "small: s3://b/x is wrong\n"),
        (OSError("disk full"), 2, "small: disk full\n"),
        (OSError(), 2, "small: OSError\n"),
        (LeaseHeld("held by another run"), 3, "small: held by another run\n"),
        (KeyboardInterrupt(), 130, "small: interrupted before it was done: run the same command again\n"),
    ],
)
def test_how_a_job_ends_becomes_its_exit_code_and_one_line(capsys, ends, code, line):
    def call(config):
        assert config == Small(num_parts=2)
        if isinstance(ends, BaseException):
            raise ends
        return ends

    def parse_arguments(arguments):
        return parse_config("small", "Do little.", Small, arguments)

    assert run("small", parse_arguments, call, ["--parts", "2"]) == code
    assert capsys.readouterr().err == line


def test_options_may_stand_in_a_file(tmp_path, capsys):
    path = tmp_path / "short.args"
    path.write_text("# a short training\n--preset fast --epochs 1 2\n\n--output 'a folder'  # quoted\n")
    config = parse("train_dmnet", f"@{path}", "--index", "i.csv", "--epochs", "3", "4")
    assert (config.preset, config.epochs, config.output_url) == ("fast", (3, 4), "a folder")
    with pytest.raises(SystemExit, match="^2$"):
        parse("train_dmnet", "@gone.args")
    assert "gone.args" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["compact", "fast"])
def test_the_settings_of_the_shipped_weights_are_options_of_today(preset):
    arguments = f"@{ROOT}/docs/{preset}.args"
    config = parse("train_dmnet", arguments, "--index", "i.csv", "--output", "o")
    assert config.preset == preset and set(config.term_weights()) == set(TERMS)


@pytest.mark.parametrize("text", ["structure", "structure=x", "structure=-1", "structures=1", "dark=nan"])
def test_a_wrong_term_is_named(text, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        parse("train_dmnet", *REQUIRED["train_dmnet"], "--terms", "dark=1", text)
    assert f"--terms has '{text}', expected NAME=X" in capsys.readouterr().err


def test_a_direction_is_asked_for_of_sobel_alone(capsys):
    with pytest.raises(SystemExit, match="^2$"):
        parse("train_dmnet", *REQUIRED["train_dmnet"], "--directed", "--gradient", "canny")
    assert "--directed is given with --gradient canny, expected sobel" in capsys.readouterr().err


def test_an_error_that_is_nobody_s_input_is_not_hidden():
    def call(config):
        raise AssertionError("a bug")

    with pytest.raises(AssertionError, match="a bug"):
        run("small", lambda arguments: Small(), call, [])


def test_every_url_of_a_config_becomes_absolute_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = with_absolute_urls(TrainConfig(index_urls=("a.csv", "s3://b/c.csv"), output_url="o"))
    assert train.index_urls == (f"{tmp_path}/a.csv", "s3://b/c.csv")
    assert (train.output_url, train.checkpoint_url) == (f"{tmp_path}/o", None)
    scored = with_absolute_urls(
        EvaluateConfig(index_url="i.csv", output_url="/o", fused_urls=(("ours", "x"),))
    )
    assert scored.fused_urls == (("ours", f"{tmp_path}/x"),)


@pytest.mark.parametrize("job", JOBS)
def test_an_empty_url_of_any_option_is_named(job, capsys):
    named = [of for of, _ in options_of(JOBS[job]) if of.name.endswith(URL_FIELDS)]
    assert len(named) > 0
    for of in named:
        name = "ours=" if of.name == "fused_urls" else ""
        if job == "fuse_archive" and of.name in ("ir_url", "vis_url"):
            given = ["--ir", "a", "--vis", "b", "--output", "o"]
        else:
            given = REQUIRED[job]
        for empty in ("", " "):
            told = refusal(job, capsys, *given, flag_of(of), f"{name}{empty}")
            assert f"{job}: {flag_of(of)} is " in told and "empty" in told and told.count("\n") == 1


@pytest.mark.parametrize("job", JOBS)
def test_nothing_is_written_to_a_web_server(job, capsys):
    told = refusal(job, capsys, *REQUIRED[job], "--output", "https://key:hunter2@host/o.csv")
    assert "--output is a URL of a web server, expected a place" in told


def test_a_home_is_found_for_every_url_of_every_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    root = Path("~root").expanduser()
    for job, config_class in JOBS.items():
        if job == "fuse_archive":
            config = parse(job, "--ir=~/a", "--vis", "~root/b", "--output=~/o")
        else:
            config = parse(job, *(word if word[0] == "-" else f"~/{word}" for word in REQUIRED[job]))
        for of, _ in options_of(config_class):
            if of.name.endswith(URL_FIELDS) and (value := getattr(with_absolute_urls(config), of.name)):
                for url in value if isinstance(value, tuple) else (value,):
                    assert Path(url).parent in (tmp_path, root), (job, of.name, url)
    scored = EvaluateConfig(index_url="i.csv", output_url="o", fused_urls=(("ours", "~/f"),))
    assert with_absolute_urls(scored).fused_urls == (("ours", f"{tmp_path}/f"),)
    for kept in ("a/~/b", "./~x", "s3://b/~/c"):
        assert with_absolute_urls(SampleConfig(output_url=kept)).output_url.endswith(kept[2:])
    with pytest.raises(ValueError, match="begins with '~no-such-user', expected a user"):
        with_absolute_urls(SampleConfig(output_url="~no-such-user/x"))


def test_a_recorded_config_holds_no_secret_of_any_url():
    secret = "https://user:hunter2@host/{}?token=hunter2"
    scored = EvaluateConfig(
        index_url="s3://key:hunter2@b/i.csv", output_url="gs://user:hunter2@bucket/o?token=hunter2",
        fused_urls=(("ours", secret.format("f")),),
    )  # fmt: skip
    shown = without_secrets(scored)
    assert "hunter2" not in str(shown)
    assert shown["index_url"] == "s3://b/i.csv" and shown["fused_urls"] == [["ours", "https://host/f"]]
    assert shown.keys() == EvaluateConfig.__dataclass_fields__.keys()


def test_windows_that_the_network_cannot_take_are_refused_before_anything_is_written(tmp_path):
    from cluster.fusing.job import fuse_archive

    output = tmp_path / "out"
    config = FuseConfig(ir_url="a", vis_url="b", output_url=str(output), window=100)
    with pytest.raises(ValueError, match="the window is 100 pixels, expected a multiple of"):
        fuse_archive(config)
    assert not output.exists()
