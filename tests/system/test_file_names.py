"""File names of any text, and text of any file name."""

import time

from system import file_names, files


def test_text_that_has_no_utf8_is_written(tmp_path):
    files.write(tmp_path / "a", "caf\udce9 \ud800")
    assert (tmp_path / "a").read_bytes() == b"caf\xe9 \\ud800"


def test_safe_names_of_long_texts_fit_into_file_names(tmp_path):
    """They keep their ends, in which names of a video's frames differ, and take no longer than other names."""
    texts = [*(f"{'é' * 150}_{number:05d}_jpg" for number in range(3000)), "b" * 200]
    names = file_names.safe_names(texts)
    assert len(set(names)) == len(texts) and names[-1] == texts[-1]
    for text, name in zip(texts, names, strict=True):
        assert len(name.encode()) <= 200 and name.endswith(text[-10:])
    (tmp_path / f"precision_recall_{names[0]}.png").write_text("")


def test_safe_names_of_very_many_texts():
    """Also of texts that come out alike: the time grows with their number, not with its square."""
    alike = ["a b", "a_b", "A_b", "a/b", "a_b_"]
    assert file_names.safe_names(alike) == ["a_b", "a_b_", "A_b__", "a_b___", "a_b____"]
    start = time.process_time()
    names = file_names.safe_names(f"folder/{number}" for number in range(20_000))
    assert time.process_time() - start < 5  # it was 20
    assert len(set(names)) == 20_000 and names[-1] == "folder_19999"
