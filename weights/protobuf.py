"""Fields and numbers of protobuf messages, read without the programs that define them."""


def fields(message):
    """Yield (field number, value) of a protobuf message: an int for a varint, otherwise the bytes as a memoryview."""
    position = 0
    while position < len(message):
        key, position = varint(message, position)
        wire = key & 7
        if wire == 0:
            value, position = varint(message, position)
        elif wire in (1, 2, 5):
            size, position = varint(message, position) if wire == 2 else ({1: 8, 5: 4}[wire], position)
            if size > len(message) - position:
                raise ValueError(f"ends within field {key >> 3}")
            value, position = message[position : position + size], position + size
        else:
            raise ValueError(f"wire type {wire}, which neither Caffe nor TensorFlow writes")
        yield key >> 3, value


def varints(packed):
    """Yield the numbers of a packed field, or the one number of an unpacked field."""
    if isinstance(packed, int):
        yield packed
        return
    position = 0
    while position < len(packed):
        value, position = varint(packed, position)
        yield value


def varint(message, position):
    """Read the variable-length number at a position -> (number, next position)."""
    value, shift = 0, 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError("ends within a number")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
