"""Checkpoints that TensorFlow writes, read without it."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import pretrained
import ssd_utils
import weight_twins
from structures import UserError
from weights import tf_checkpoints, weight_files


def save(path, arrays):
    """Write arrays, by variable name, as a checkpoint."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.get_variable(name, initializer=array) for name, array in arrays.items()]
        session.run(tf.global_variables_initializer())
        return tf.train.Saver(variables).save(session, str(path), write_meta_graph=False, write_state=False)


def test_what_tensorflow_wrote_is_read(tmp_path):
    """Names with common beginnings, more than one block of them, every shape and type."""
    rng = np.random.default_rng(0)
    arrays = {f"group_{n % 7}/layer_{n}/weights": rng.normal(size=(n % 3, 2, n)).astype(np.float32) for n in range(300)}
    arrays |= {"step": np.int64(7), "half": np.float16([0.5, 2]), "double": np.float64(1e-300), "w": np.int32([[1]])}
    save(tmp_path / "model", arrays)
    found = tf_checkpoints.read(str(tmp_path / "model.index"))
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_damaged_checkpoints_get_one_line(tmp_path):
    save(tmp_path / "model", {"a": np.ones(100, np.float32), "b": np.ones(3, np.float32)})
    index, data = tmp_path / "model.index", tmp_path / "model.data-00000-of-00001"
    whole = index.read_bytes()
    for content in (b"", b"text", whole[:-1], whole[1:], whole[:40] + whole[-48:]):
        index.write_bytes(content)
        with pytest.raises(UserError, match=r"model.index: not a readable .index"):
            weight_files.read(index)
    index.write_bytes(whole)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model.index: not a readable .index \(b is cut off\)"):
        weight_files.read(index)
    data.unlink()
    with pytest.raises(UserError, match=r"model.index: not a readable .index"):
        weight_files.read(index)


def test_arrays_over_each_other_are_refused(tmp_path, monkeypatch):
    """Otherwise a file of 4 MB whose index names its bytes a thousand times fills all memory."""
    save(tmp_path / "model", {"a": np.ones(100, np.float32)})
    table = tf_checkpoints._table

    def with_another_name(content):
        found = dict(table(content))
        return [*found.items(), (b"again", found[b"a"])]

    monkeypatch.setattr(tf_checkpoints, "_table", with_another_name)
    with pytest.raises(UserError, match=r"model.index: not a readable .index \(arrays that lie over each other\)"):
        weight_files.read(tmp_path / "model.index")


@pytest.mark.parametrize("fc_form", ["subsampled", "full"])
def test_the_saved_model_of_udacity(tmp_path, fc_form):
    """Its names and shapes, as the article's ssdvgg.py reads them: conv1_1/filter, fc6/weights [7,7,512,4096]."""
    arrays, ours = weight_twins.vgg("vgg16-npz", fc="whole")
    for name in [name for name in arrays if name.startswith("conv") and name.endswith("/weights")]:
        arrays[name.replace("/weights", "/filter")] = arrays.pop(name)
    arrays["fc6/weights"] = arrays["fc6/weights"].reshape(7, 7, 16, 128)
    arrays["fc7/weights"] = arrays["fc7/weights"].reshape(1, 1, 128, 128)
    arrays |= {"fc8/weights": np.ones((1, 1, 128, 9), np.float32), "fc8/biases": np.ones(9, np.float32)}
    (tmp_path / "vgg" / "variables").mkdir(parents=True)
    save(tmp_path / "vgg" / "variables" / "variables", arrays)
    preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), width=1 / 32, channel_order="BGR", fc_form=fc_form)
    found = pretrained.read_vgg(str(tmp_path / "vgg"), preset)
    expected = ours | (
        {name: arrays[name] for name in arrays if name[:3] in ("fc6", "fc7")} if fc_form == "full" else {}
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
