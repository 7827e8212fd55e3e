"""Lists of class names, from flags and files."""

import pytest

import source_pascal_voc
from formats import class_lists
from structures import UserError


def error_of(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return str(caught.value)


def test_classes_from_names_and_files(tmp_path):
    assert class_lists.parse_classes("RBC, WBC,Platelets") == ("RBC", "WBC", "Platelets")
    assert class_lists.parse_classes("raccoon") == ("raccoon",)
    many = [f"class{number}" for number in range(200)]  # together longer than a file name may be
    assert class_lists.parse_classes(",".join(many)) == tuple(many)
    path = tmp_path / "names"
    path.write_bytes("\ufefftraffic light\r\n\r\n  bus \r\n".encode())
    assert class_lists.parse_classes(str(path)) == ("traffic light", "bus")
    assert class_lists.parse_classes(",".join(source_pascal_voc.CLASSES)) == source_pascal_voc.CLASSES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty"),
        ("a,,b", "empty"),
        ("a,b,a", "'a'"),
        ("a,Background", "'Background'"),
        ("a,b/c", "'b/c' contains a slash; rename that class"),
        ("a,big\u2028car", r"'big\u2028car' contains the character '\u2028'; rename that class"),
        ("caf\xe9,dog,cafe\u0301", "'cafe\u0301' is listed in two forms of Unicode that look the same"),
        ("big\x0bcar", r"'big\x0bcar' contains the character '\x0b'; rename that class"),
        ("big\x1bcar", r"'big\x1bcar' contains the character '\x1b'; rename that class"),
        ("car\udc80", r"'car\udc80' contains the character '\udc80'; rename that class"),
        ("names.txt", "no such file"),
        ("some/names", "no such file"),
    ],
)
def test_wrong_classes(text, expected):
    message = error_of(class_lists.parse_classes, text)
    assert message.startswith(f"--classes {text}: ") and expected in message


def test_a_name_in_a_file_ends_with_its_line(tmp_path):
    """Not at what other programs take for an end: the names after it would have other numbers."""
    path = tmp_path / "names.txt"
    path.write_text("big\x85car\ndog\n")
    assert r"'big\x85car' contains the character '\x85'" in error_of(class_lists.parse_classes, str(path))
    path.write_bytes("mug\u200d\r\ndog\rcow".encode())
    assert class_lists.parse_classes(str(path)) == ("mug\u200d", "dog", "cow")


def test_a_tab_and_a_wrongly_decoded_apostrophe_may_be_in_a_name():
    """They end no line, and files of every format hold them."""
    assert class_lists.parse_classes("big\tcar,driver\x92s") == ("big\tcar", "driver\x92s")


def test_empty_class_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n")
    assert error_of(class_lists.parse_classes, str(path)).startswith(f"--classes {path}: ")


def test_labels_of_a_models_classes():
    names = ("cat", "dog", "cow")
    assert class_lists.find_labels(None, names) is None
    assert class_lists.find_labels("cow,cat", names) == {0, 2}
    assert error_of(class_lists.find_labels, "cat,bird", names).startswith("--classes bird: ")


def test_what_can_be_known_before_the_model_is_loaded():
    class_lists.check_classes(None, None)
    class_lists.check_classes("bird", None)
    assert "'bird'" in error_of(class_lists.check_classes, "bird,bird", None)
    message = error_of(class_lists.check_classes, "bird", ("cat",))
    assert message.startswith("--classes bird: ") and "cat" in message
