"""How a network is computed: in which data type, and what XLA compiles."""

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
# What XLA compiles of a training step: nothing; the optimizer's update; what TensorFlow chooses; everything
XLA_FORMS = ("off", "update", "on", "whole")
