"""Benchmarks of one layer's convolution and its gradients: each form in kernels/ against TensorFlow's own, in turn."""

import numpy as np
from bench_harness import duel
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project
from bench_worker import serve

from system import tensorflow_loading

# (cells a side, channels, filters, dilation), as in VGG-16 at 300x300; the last is fc6
LAYERS = ((150, 128, 128, 1), (75, 256, 256, 1), (38, 512, 512, 1), (19, 512, 512, 1), (19, 512, 1024, 6))
FORWARD, INPUT, FILTER = "forward", "input-gradient", "filter-gradient"
# Besides TensorFlow's own: of all passes; of the filter gradient alone
WINOGRAD, FORMS = "winograd", ("tap", "row", "flat")


def convolutions(name, settings):
    """Milliseconds of each pass in each form, for each layer; the peer is TensorFlow's own."""
    for side, channels, filters, dilation in settings.choose(LAYERS, LAYERS, ((12, 64, 65, 1),)):
        layer = {"side": side, "channels": channels, "filters": filters, "dilation": dilation}
        layer["batch"] = settings.choose(8, 8, 1)
        forms = [(WINOGRAD, one) for one in (FORWARD, INPUT, FILTER) if dilation == 1]
        for form, one in [*forms, *((form, FILTER) for form in FORMS)]:
            yield duel(
                f"{name}-{side}-{one}-{form}",
                ("bench_convolutions.py", "layer", {**layer, "form": form, "which": one}),
                ("bench_convolutions.py", "layer", {**layer, "form": "plain", "which": one}),
                settings=settings,
                rounds=settings.choose(11, 5, 1),
                unit="ms",
                value=lambda answers: [1000 * answer["seconds"] for answer in answers],
                what=f"{one}, {side} cells a side, {channels} → {filters}, dilation {dilation}, batch {layer['batch']}",
            )


def layer(side, channels, filters, dilation, batch, form, which):
    """One pass of a 3×3 layer in float32; its result is reduced to a number, so that no copy is timed."""
    tf = tensorflow_loading.import_tensorflow()
    from kernels import devices

    draw = np.random.default_rng(0).standard_normal
    arrays = [draw(shape, np.float32) for shape in ((batch, side, side, channels), (3, 3, channels, filters))]
    arrays.append(draw((batch, side, side, filters), np.float32))
    with tf.Graph().as_default() as graph:
        x, weights, dy = (tf.Variable(tf.zeros(array.shape), name=f"v{i}") for i, array in enumerate(arrays))
        last = tf.reduce_max(_pass(tf, x.value(), weights.value(), dy.value(), form, which, dilation))
        feeds = [tf.placeholder(tf.float32, array.shape) for array in arrays]
        fill = [variable.assign(feed) for variable, feed in zip((x, weights, dy), feeds, strict=True)]
    session = tf.Session(graph=graph, config=devices.session_config())
    session.run(fill, dict(zip(feeds, arrays, strict=True)))

    def run():
        return {"items": batch, "largest": float(session.run(last))}

    return {"form": form, "tensorflow": tf.__version__}, run


def _pass(tf, x, weights, dy, form, which, dilation):
    """The tensor of one pass in one form."""
    from kernels import convolution, winograd

    size, options = int(weights.shape[0]), {"dilations": dilation}
    if form in FORMS:
        return getattr(convolution, f"{form}_products")(x, dy, size, dilation)
    if form == WINOGRAD and which == FORWARD:
        return winograd.conv2d(x, weights)
    if form == WINOGRAD:
        return winograd.input_gradient(weights, dy) if which == INPUT else winograd.filter_gradient(x, dy)
    y = tf.nn.conv2d(x, weights, 1, "SAME", **options)
    return y if which == FORWARD else tf.gradients(y, x if which == INPUT else weights, dy)[0]


BENCHMARKS = {"convolutions": convolutions}

if __name__ == "__main__":
    serve({"layer": layer})
