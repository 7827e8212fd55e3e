"""What travels together: the pieces of the gradients. tests/test_train_together.py sends them."""

import math

import tensorflow.compat.v1 as tf

from distribution import collective


def sizes(numbers, *lengths):
    """How many numbers each piece has, of variables with so many each."""
    with tf.Graph().as_default():
        variables = [tf.get_variable(f"v{index}", [length]) for index, length in enumerate(lengths)]
        pieces = collective._pieces([(variable, None) for variable in variables], numbers)
    assert [variable for piece in pieces for variable, _ in piece] == variables
    return [[variable.shape.num_elements() for variable, _ in piece] for piece in pieces]


def test_pieces_are_as_large_as_asked_for_and_keep_the_order():
    assert sizes(10, 4, 6, 3, 30, 1, 9, 2) == [[4, 6], [3, 30], [1, 9], [2]]
    assert sizes(1, 4, 6) == [[4], [6]]
    assert sizes(math.inf, 4, 6, 3) == [[4, 6, 3]]
    assert sizes(10) == []
