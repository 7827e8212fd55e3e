"""The rows of a comparison, with the commit and the packages that each was measured with."""

import json
import os

from structures import UserError
from system import files


class Rows:
    """Measures rows, and keeps them in a file, so that an interrupted comparison goes on with the next row.

    path: of the file, JSON Lines; None keeps nothing.
    origin: text that says what measures: commit, packages, machine.
    say: function (text) that tells somebody what begins.
    """

    def __init__(self, path, origin, say):
        self._path, self._origin, self._say = path, origin, say
        self._kept = dict(_read(path)) if path else {}
        self._shown = []

    def measured(self, table, name, measure):
        """{measure: number} of one row, from the file if it has the row, else from measure().

        table: the table that the row is in.
        name: of the row, unique in its table.
        """
        if (table, name) in self._kept:
            self._say(f"{name}: measured before")
        else:
            self._say(f"{name} …")
            numbers = {key: _plain(value) for key, value in measure().items()}
            self._kept[table, name] = {"table": table, "row": name, "origin": self._origin, "numbers": numbers}
            if self._path:
                os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
                with open(self._path, "a") as file:
                    file.write(json.dumps(self._kept[table, name]) + "\n")
        self._shown.append((table, name))
        return self._kept[table, name]["numbers"]

    def origins(self):
        """Sentences: what measured the rows that were asked for, and which of them if not all are of one origin."""
        rows = {}
        for key in self._shown:
            rows.setdefault(self._kept[key]["origin"], []).append(key[1])
        if len(rows) < 2:
            return [f"Measured {origin}." for origin in rows]
        most = max(rows, key=lambda origin: len(rows[origin]))
        others = [f"Measured {origin}: {', '.join(rows[origin])}." for origin in rows if origin != most]
        return [*others, f"All other rows: measured {most}."]


def _read(path):
    """((table, row), line) of each line of the file; nothing if there is no file. Raises UserError if it is damaged."""
    if not os.path.exists(path):
        return
    for number, line in files.read_lines(path):
        try:
            row = json.loads(line)
            yield (row["table"], row["row"]), {"origin": row["origin"], "numbers": dict(row["numbers"])}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}:{number}: not a row of parity.py; remove the line or give another file") from None


def _plain(number):
    """A number as JSON has it."""
    return number if isinstance(number, int) else float(number)
