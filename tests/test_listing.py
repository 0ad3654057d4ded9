"""Files to cases: how each is read, and which files are one case."""

import pytest

from pipeline.errors import UserError
from pipeline.records import Case
from sources.cases import form_of
from sources.listing import built_in, form_of_file

BRATS = """
cases: {match: "**/{case}_{channel:flair|t1|t1ce|t2|seg}.nii.gz", id: "{case}", group: "{case}"}
channels: {files: {t1: T1, t1ce: T1Gd, t2: T2, flair: FLAIR}}
annotations: [{kind: labelmap, path: "**/{case}_seg.nii.gz", labels: {1: tumour}}]
"""


def by_id(found):
    return {case.id: case for case in found.cases}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.nii", "volume"),
        ("A.NII.GZ", "volume"),
        ("a.nrrd", "volume"),
        ("a.nhdr", "volume"),
        ("a.mha", "volume"),
        ("1.2.840.7.mhd", "volume"),
        ("IM0001.DCM", "series"),
        ("a.dicom", "series"),
        ("a.ima", "series"),
        ("a.MP4", "video"),
        ("a.avi", "video"),
        ("a.mov", "video"),
        ("a.mpeg", "video"),
        ("a.wmv", "video"),
        ("a.webm", "video"),
        ("a.gif", "video"),
        ("a.png", "picture"),
        ("a.JPEG", "picture"),
        ("a", "picture"),
        ("1.2.840.7", "picture"),
    ],
)
def test_a_file_is_read_by_its_suffix_in_any_case(name, form):
    assert form_of_file(f"some.folder/{name}") == form


def test_a_descriptor_may_say_how_files_are_read(data_set):
    toy = data_set('cases: {match: "{stem}", form: series}', {"IM0001": b"x"})
    assert form_of(toy.plan().cases[0], toy.descriptor) == "series"
    toy = data_set('cases: {match: "{stem}.gif", form: picture}', {"a.gif": b"x"})
    assert form_of(toy.plan().cases[0], toy.descriptor) == "picture"
    toy = data_set('cases: {match: "{stem}.npy", rows: {image: array}}', {})
    assert form_of(Case("a", "toy", "a", {"image": ("a.npy",)}, {}, row=0), toy.descriptor) == "rows"


@pytest.mark.parametrize(
    ("path", "stem", "suffix"),
    [
        ("p/1.2.840.113.7", "1.2.840.113.7", ""),
        ("p/1.2.840.113.7.dcm", "1.2.840.113.7", ".dcm"),
        ("a.NII.GZ", "a", ".NII.GZ"),
        ("v1.0/scan_0.5mm.png", "scan_0.5mm", ".png"),
        ("v1.0/README", "README", ""),
        ("odd.", "odd.", ""),
    ],
)
def test_the_number_at_the_end_of_an_identifier_is_no_suffix(path, stem, suffix):
    assert (built_in(path)["stem"], built_in(path)["suffix"]) == (stem, suffix)


def test_slices_whose_names_end_in_a_number_are_cases_of_their_own(data_set):
    found = data_set('cases: {match: "{s}/*", form: series}', {"s1/1.2.8.45": b"x", "s1/1.2.8.46": b"x"}).plan()
    assert [case.id for case in found.cases] == ["s1/1.2.8.45", "s1/1.2.8.46"]


def test_dicom_files_of_one_id_are_one_series_without_saying_so(data_set):
    found = data_set('cases: {match: "{s}/*.IMA", id: "{s}"}', {"s1/1.IMA": b"x", "s1/2.IMA": b"x"}).plan()
    assert [(case.id, case.files["image"]) for case in found.cases] == [("s1", ("s1/1.IMA", "s1/2.IMA"))]


# ---- channels


def test_sibling_files_are_the_channels_of_one_case_in_the_descriptors_order(data_set):
    files = {f"b/p1/p1_{part}.nii.gz": b"x" for part in ("flair", "t1", "t1ce", "t2", "seg")}
    found = data_set(BRATS, files, modality="mr").plan()
    (case,) = found.cases
    assert case.channels == ("T1", "T1Gd", "T2", "FLAIR")
    assert [path.rpartition("_")[2] for path in case.files["image"]] == [
        "t1.nii.gz", "t1ce.nii.gz", "t2.nii.gz", "flair.nii.gz",
    ]  # fmt: skip
    assert case.files["0"] == ("b/p1/p1_seg.nii.gz",)
    assert (case.captures["case"], case.captures["stem"]) == ("p1", "p1_t1")
    assert "channel" not in case.captures
    assert found.unclaimed == ()


def test_a_case_keeps_the_channels_that_it_has(data_set):
    files = {"p1_t2.nii.gz": b"x", "p1_flair.nii.gz": b"x", "p1_seg.nii.gz": b"x", "p2_t1.nii.gz": b"x"}
    found = by_id(data_set(BRATS, files, modality="mr").plan())
    assert (found["p1"].channels, found["p2"].channels) == (("T2", "FLAIR"), ("T1",))
    assert found["p1"].files["image"] == ("p1_t2.nii.gz", "p1_flair.nii.gz")
    assert (found["p1"].problem, found["p2"].problem) == (None, None)


def test_a_case_without_any_channel_is_missing_its_picture(data_set):
    found = by_id(data_set(BRATS, {"p1_t1.nii.gz": b"x", "p1_seg.nii.gz": b"x", "p2_seg.nii.gz": b"x"}).plan())
    assert found["p2"].problem == ("missing_image", "annotation 0 has a file for it, but there is no picture")


def test_what_is_no_channel_and_no_annotation_is_unclaimed(data_set):
    yaml = BRATS.partition("annotations")[0]
    found = data_set(yaml, {"p1_t1.nii.gz": b"x", "p1_seg.nii.gz": b"x"}).plan()
    assert found.unclaimed == ("p1_seg.nii.gz",)


def test_two_files_of_one_channel_are_an_error_that_says_which(data_set):
    toy = data_set(BRATS, {"a/p1_t2.nii.gz": b"x", "b/p1_t2.nii.gz": b"x"})
    said = r"case 'p1' has 2 files of channel T2 \(a/p1_t2\.nii\.gz, b/p1_t2\.nii\.gz\); add a capture to cases\.id"
    with pytest.raises(UserError, match=said):
        toy.plan()


def test_two_spellings_of_a_channel_are_one(data_set):
    yaml = BRATS.replace("t1ce: T1Gd", "t1ce: T1Gd, t1gd: T1Gd").replace("t1ce|", "t1ce|t1gd|")
    found = by_id(data_set(yaml, {"p1_t1ce.nii.gz": b"x", "p2_t1gd.nii.gz": b"x", "p2_t2.nii.gz": b"x"}).plan())
    assert (found["p1"].channels, found["p2"].channels) == (("T1Gd",), ("T1Gd", "T2"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("{channel:flair|t1|t1ce|t2|seg}", "{part}"), "channels.files: cases.match should capture {channel}"),
        (('id: "{case}"', 'id: "{case}{channel}"'), "channels.files: cases.id should name what the files of one body"),
        ((', id: "{case}"', ""), "channels.files: cases.id should name what the files of one body share"),
        (('group: "{case}"', 'group: "{channel}"'), "cases.group: 'channel' is not captured"),
    ],
)
def test_channels_that_can_not_be_told_apart_are_one_line(data_set, change, said):
    toy = data_set(BRATS.replace(*change), {"p1_t1.nii.gz": b"x"})
    with pytest.raises(UserError) as caught:
        toy.plan()
    assert said in str(caught.value)


def test_names_along_the_fourth_axis_are_no_files(data_set):
    yaml = 'cases: {match: "{stem}.nii.gz"}\nchannels: {axis: [T1, T2]}'
    (case,) = data_set(yaml, {"a.nii.gz": b"x"}).plan().cases
    assert (case.channels, case.files["image"]) == ((), ("a.nii.gz",))
