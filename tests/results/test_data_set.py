"""What results ask of a data set is read when it is asked for, and once."""

import numpy as np
import pytest

import dataset_formats
import sources
from results.data_set import DataSet
from structures import UserError
from voc_tree import write_voc


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    """{format: DATA} of one small data set."""
    folder = tmp_path_factory.mktemp("data")
    picture = np.zeros((40, 60, 3), np.uint8), [("car", (11, 11, 30, 30))]
    voc = write_voc(folder / "voc", {"a": picture, "b": picture})
    return dataset_formats.write_all(voc, folder / "others", ["trainval"], ("car", "bus"))


@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "csv"])
def test_data_sets_of_every_format(formats, name):
    data = DataSet(formats[name], "trainval")
    assert data.format == name
    assert data.class_names == sources.class_names(formats[name], "trainval")
    samples = data.samples(["car", "bus"])
    assert list(samples) == ["a", "b"]
    assert (samples["a"].width, samples["a"].height) == (60, 40)
    assert data.samples(("car", "bus")) is samples  # loaded once


def test_ids_of_a_coco_data_set(formats):
    image_ids, category_ids = DataSet(formats["coco"], "trainval").coco_ids
    assert set(image_ids) == {"a", "b"} and set(category_ids) == {"car", "bus"}


def test_settings_reach_the_data_set(formats):
    assert DataSet(formats["voc"], "trainval", other_classes="ignore").samples(["bus"])["a"].labels.size == 0
    with pytest.raises(UserError, match="car"):
        DataSet(formats["voc"], "trainval").samples(["bus"])
    assert DataSet(formats["coco"], "trainval", "csv").format == "csv"
