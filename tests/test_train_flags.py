"""What train.py refuses before it looks at data or loads TensorFlow."""

import pytest

import train_flags
from structures import UserError

NEW = ["--data", "data", "--train", "train", "--run", "runs/new"]


def read(*flags):
    return train_flags.read(train_flags.parse([*NEW, *flags], None))


@pytest.mark.parametrize("name", ["a[1]", "runs/a*", "b?/run", "back\\slash"])
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["new", "resumed"])
def test_a_run_whose_name_tensorflow_takes_for_a_pattern(name, more):
    with pytest.raises(UserError, match=r"--run: .*pattern.*rename the folder"):
        read("--run", name, *more)


def test_a_run_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(UserError, match=r"--run: .*file"):
        read("--run", str(tmp_path / "file" / "run"))
    with pytest.raises(UserError, match=r"--run: .*file"):
        read("--run", str(tmp_path / "file"))
