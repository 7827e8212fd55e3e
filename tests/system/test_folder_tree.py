"""The files in a folder and below it."""

import os

from system import folder_tree


def test_walk_follows_links_and_meets_each_folder_once(tmp_path):
    for name in ("b", "d/e"):
        (tmp_path / "top" / name).mkdir(parents=True)
        (tmp_path / "top" / name / "file").touch()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").touch()
    for name, target in {"a": "top/d/e", "c": "far", "d/up": "top", "d/self": "top/d"}.items():
        (tmp_path / "top" / name).symlink_to(tmp_path / target)
    found = list(folder_tree.walk(tmp_path / "top"))
    assert [os.path.relpath(folder, tmp_path / "top") for folder, _ in found] == [".", "b", "d", "d/e", "c"]
    assert [names for _, names in found] == [[], ["file"], [], ["file"], ["file"]]
    left = folder_tree.walk(tmp_path / "top", lambda path: os.path.basename(path) in ("c", "top"))
    assert [os.path.relpath(folder, tmp_path / "top") for folder, _ in left] == [".", "b", "d", "d/e"]
