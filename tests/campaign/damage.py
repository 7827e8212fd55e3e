"""Damage the content of a file, from a random generator: bytes of any file, and values, cells and tags of text."""

import json

WORDS = (
    *(b"", b"0", b"-1", b"1e400", b"nan", b"inf", b"-0.0", b"99999999999999999999", b"null", b"true", b"[]", b"{}"),
    *(
        b'"',
        b"'",
        b",",
        b";",
        b"\n",
        b"\r",
        b"\t",
        b"\x00",
        b"<",
        b">",
        b"&lt;",
        b"<a>",
        b"</a>",
        b"<!--",
        b"]]>",
        b":",
    ),
    *(
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"../../x",
        b"/",
        b"%",
        b"*",
        b"&a *a",
        b"- ",
        b"\x80",
    ),
)
VALUES = (
    *(None, True, False, 0, -1, 1, 1.5, 10**30, 1e308, -1e308, "", "a", "\ud800", "\n", "../x", "0", "NaN", [], {}),
    *([[]], [0], {"a": 1}, "x" * 2000, [[[[[[]]]]]], float("nan"), float("inf")),
)


def damage(content, chance):
    """A damaged copy of some bytes."""
    ways = [_flip, _cut, _repeat, _remove, _insert, _swap]
    text = b"\x00" not in content[:4096]
    if text:
        ways += [_word, _word, _word, _line]
    if content[:1] in (b"{", b"["):
        ways += [_value] * 8
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice(ways)(content, chance)
    return content


def _place(content, chance):
    return chance.randrange(len(content) + 1)


def _flip(content, chance):
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 20))):
        if changed:
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
    return bytes(changed)


def _cut(content, chance):
    return content[: _place(content, chance)]


def _span(content, chance):
    begin = _place(content, chance)
    return begin, min(len(content), begin + chance.choice((1, 2, 4, 8, 64, 1000)))


def _repeat(content, chance):
    begin, end = _span(content, chance)
    return content[:end] + content[begin:end] * chance.choice((1, 2, 30)) + content[end:]


def _remove(content, chance):
    begin, end = _span(content, chance)
    return content[:begin] + content[end:]


def _insert(content, chance):
    at = _place(content, chance)
    return content[:at] + chance.choice(WORDS) + content[at:]


def _swap(content, chance):
    """A field of 1 to 8 bytes gets an extreme number."""
    begin, size = _place(content, chance), chance.choice((1, 2, 4, 8))
    number = chance.choice((0, 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1, 2 ** (8 * size - 1) - 1))
    return content[:begin] + number.to_bytes(size, chance.choice(("little", "big"))) + content[begin + size :]


def _word(content, chance):
    """One word of a text, between spaces, commas, quotes or brackets, becomes another."""
    begin = _place(content, chance)
    while begin and content[begin - 1 : begin] not in _ENDS:
        begin -= 1
    end = begin
    while end < len(content) and content[end : end + 1] not in _ENDS:
        end += 1
    return content[:begin] + chance.choice(WORDS) + content[end:]


_ENDS = [bytes([one]) for one in b" ,;\t\n\r\"'<>[]{}()=:"]


def _line(content, chance):
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    one = chance.randrange(len(lines))
    other = lines[chance.randrange(len(lines))]
    lines[one : one + chance.choice((0, 1))] = [other] * chance.choice((0, 1, 2))
    return b"".join(lines)


def _value(content, chance):
    """A value somewhere in JSON gets another type or number, or goes; keys are renamed."""
    try:
        root = json.loads(content)
    except (ValueError, RecursionError):
        return content
    node, path = root, []
    while isinstance(node, (dict, list)) and node and (not path or chance.random() < 0.8):
        key = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
        path.append((node, key))
        node = node[key]
    if not path:
        return content
    owner, key = path[-1]
    what = chance.random()
    if what < 0.15:
        del owner[key]
    elif what < 0.25 and isinstance(owner, dict):
        owner[chance.choice(("a", "", "\ud800", "x" * 300))] = owner.pop(key)
    else:
        owner[key] = chance.choice(VALUES)
    return json.dumps(root).encode()
