"""Patterns of names, and two listings of one folder."""

import pytest

from cluster.archive.matching import match_pairs
from cluster.archive.naming import NamePattern, Naming
from cluster.archive.no_pairs import no_pairs_message
from cluster.storage.urls import path_below
from tests.cluster.test_pair_index import ids, listing, reasons


def test_named_parts_make_a_pair_id_in_the_order_of_the_infrared_pattern():
    pairs, unmatched = match_pairs(
        listing("set00/V001/lwir/I7.jpg", "set00/V001/lwir/deep/I7.jpg"),
        listing("visible/V001/set00/I7.png"),
        Naming(ir_pattern="{set}/{video}/lwir/{frame}", vis_pattern="visible/{video}/{set}/{frame}"),
    )
    assert ids(pairs) == ["set00/V001/I7"]
    assert reasons(unmatched) == {"set00/V001/lwir/deep/I7": "missing_partner"}


def test_id_spans_folders_beside_named_parts_that_do_not():
    naming = Naming(ir_pattern="{camera}_ir/{id}", vis_pattern="{id}/{camera}_rgb")
    pairs, _ = match_pairs(listing("c1_ir/a/b.png"), listing("a/b/c1_rgb.png"), naming)
    assert ids(pairs) == ["c1/a/b"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("x", r"expected the text '\{id\}' exactly once"),
        ("{id}_{", "no other brace"),
        ("{}", "no other brace"),
        ("{id}_{id}", "each name in braces once"),
        ("{set}{frame}", "some text between two parts"),
    ],
)
def test_a_pattern_that_is_none_is_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        NamePattern(pattern)


def test_patterns_of_different_names_are_refused():
    with pytest.raises(ValueError, match="the same names in braces in both"):
        Naming(ir_pattern="{set}/{frame}", vis_pattern="{id}")


def test_a_dot_in_a_pattern_is_an_extension_only_where_images_have_it():
    pairs, _ = match_pairs(
        listing("a.v2.png", "b.v2.TIF"), listing("a.JPG", "b.jpg"), Naming(ir_pattern="{id}.v2")
    )
    assert ids(pairs) == ["a", "b"]
    pairs, unmatched = match_pairs(
        listing("a.v2.png", "b.v2.TIF"), listing("a.JPG", "b.jpg"), Naming(ir_pattern="{id}.v2.tif")
    )
    assert ids(pairs) == ["b"]
    assert {row["detail"]: row["reason"] for row in unmatched} == {
        "ir: the pattern '{id}.v2.tif' leaves this extension out": "other_extension",
        "ir: no file of this name below the prefix": "missing_partner",
    }


def test_on_request_case_and_leading_zeros_do_not_matter():
    ir, vis = listing("Day/Frame_0007.png", "x.png"), listing("day/frame_7.JPG", "x.png")
    naming = Naming(ignore_case=True, ignore_leading_zeros=True)
    assert ids(match_pairs(ir, vis, naming)[0]) == ["Day/Frame_0007", "x"]
    for alone in (Naming(), Naming(ignore_case=True), Naming(ignore_leading_zeros=True)):
        assert ids(match_pairs(ir, vis, alone)[0]) == ["x"]
    _, unmatched = match_pairs(listing("7.png", "007.png"), listing("07.png"), naming)
    (row,) = unmatched
    assert row["reason"] == "ambiguous" and "one name by --ignore-case or" in row["detail"]


def test_zeros_behind_a_decimal_point_and_a_zero_alone_stay():
    fold = Naming(ignore_leading_zeros=True).fold()
    assert fold("t01580.0500_000/00") == "t1580.0500_0/0"


def test_letters_of_a_pattern_fit_in_either_case_on_request():
    naming = Naming(ir_pattern="{id}_T", vis_pattern="{id}_w.jpg", ignore_case=True)
    pairs, _ = match_pairs(listing("a_t.png"), listing("A_W.JPG"), naming)
    assert ids(pairs) == ["a"]


def test_of_two_patterns_that_fit_a_file_the_one_that_spells_out_more_takes_it():
    files = listing("x.png", "x_rgb.png", "y_rgb.png")
    naming = Naming(vis_pattern="{id}_rgb")
    pairs, unmatched = match_pairs(files, files, naming, folders=("", ""))
    assert ids(pairs) == ["x"]
    assert reasons(unmatched) == {"y": "missing_partner"}


def test_files_of_a_nested_prefix_are_the_inner_side_s():
    outer, inner = listing("1.png", "vis/1.png", "vis/2.png", "3.png"), listing("1.png", "2.png")
    for sides, folders in (((outer, inner), ("", "vis/")), ((inner, outer), ("vis/", ""))):
        pairs, unmatched = match_pairs(*sides, folders=folders)
        assert ids(pairs) == ["1"]
        assert reasons(unmatched) == {"2": "missing_partner", "3": "missing_partner"}
        assert len(unmatched) == 2


def test_a_file_of_a_shared_folder_is_listed_once():
    files = listing("a_T.png", "a_W.png", "notes.txt", ".hidden", "odd.png")
    naming = Naming(ir_pattern="{id}_T", vis_pattern="{id}_W")
    pairs, unmatched = match_pairs(files, files, naming, folders=("", ""))
    assert ids(pairs) == ["a"]
    assert ids(unmatched) == [".hidden", "notes", "odd"]


@pytest.mark.parametrize(
    ("ir", "vis", "naming", "advice"),
    [
        (["a.png"], [], Naming(), "The visible folder is empty"),
        (["a.npy", "README"], ["a.png"], Naming(), "None of the infrared files is an image"),
        (["a.png"], ["a.png"], Naming(vis_pattern="{id}.tif"), "No visible file has the extension"),
        (["a.png"], ["a.png"], Naming(ir_pattern="{id}_T"), "No infrared name fits '{id}_T'"),
        (["a.png", "a.tif"], ["a.png"], Naming(), "--ir-pattern '{id}.tif' of jobs/index_archive.py"),
        (["a.png", "a.PNG"], ["a.png"], Naming(), "differ only in case: rename all but one"),
        (["A.png"], ["a.png"], Naming(), "as 1 are by --ignore-case of"),
        (["7.png"], ["07.png"], Naming(), "as 1 are by --ignore-leading-zeros of"),
        (["A7.png"], ["a07.png"], Naming(), "by --ignore-case --ignore-leading-zeros of"),
        (["a_T.png"], ["a_W.png"], Naming(), "not names as 'a_T' and 'a_W': say by --ir-pattern"),
        (["\udcff.png"], ["a.png"], Naming(), "the file's name is not UTF-8: rename it"),
    ],
)
def test_the_advice_where_nothing_pairs_is_one_that_works(ir, vis, naming, advice):
    pairs, unmatched = match_pairs(listing(*ir), listing(*vis), naming)
    assert pairs == []
    prefixes, num_files = {"ir": "/r/ir", "vis": "/r/vis"}, {"ir": len(ir), "vis": len(vis)}
    assert advice in no_pairs_message(prefixes, num_files, naming, unmatched)


@pytest.mark.parametrize(
    ("url", "folder", "below"),
    [
        ("s3://b/a/", "s3://b/a", ""),
        ("s3a://key:secret@b/a/c", "s3://b/a/", "c"),
        ("s3://b/ab", "s3://b/a", None),
        ("/x/../a/b/", "file:///a", "b"),
        ("/a", "/a/b", None),
        ("/a", "/", "a"),
    ],
)
def test_where_one_place_is_below_another(url, folder, below):
    assert path_below(url, folder) == below
