"""A table on disk that is read, shortened and appended to: CSV or JSONL, by its name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mechft.errors import OutputExistsError, require
from mechft.files import write_text


class TableFile:
    """Rows of named values in a file that may have been cut off in the middle of its last line.

    Args:
        path: The file, ``.csv`` or ``.jsonl``.
        columns: Names of the values, in order; what a row does not have is empty, or null.

    Raises:
        ConfigError: If the name ends otherwise.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]) -> None:
        self.path, self.columns = Path(path), tuple(columns)
        require(
            self.path.suffix in (".csv", ".jsonl"),
            f"A table's name ends in .csv or .jsonl; got {self.path.name!r}. Choose one.",
        )

    @property
    def _is_csv(self) -> bool:
        return self.path.suffix == ".csv"

    def line(self, row: Mapping[str, Any]) -> str:
        """A row as it stands in the file, its end included."""
        values = {name: row.get(name) for name in self.columns}
        if not self._is_csv:
            return json.dumps(values) + "\n"
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerow(values)
        return text.getvalue()

    def read(self) -> list[dict[str, Any]]:
        """The rows of the file; none if there is no file, and none of a last line without its end.

        Values are strings if it is CSV.

        Raises:
            OutputExistsError: If it is no table of these columns.
        """
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        try:
            if self._is_csv:
                reader = csv.DictReader(io.StringIO(whole), strict=True)
                rows: list[dict[str, Any]] = list(reader)
                good = not whole or tuple(reader.fieldnames or ()) == self.columns
                good &= all(None not in row and None not in row.values() for row in rows)
            else:
                rows = [json.loads(line) for line in whole.splitlines()]
                names = list(self.columns)
                good = all(isinstance(row, dict) and list(row) == names for row in rows)
        except (json.JSONDecodeError, csv.Error):
            good = False
        if not good or (not whole and not self._is_beginning(text)):
            raise OutputExistsError(
                f"{self.path} is no table with the columns {', '.join(self.columns)}. It was left as it is. "
                "Choose another path."
            )
        return rows

    def _is_beginning(self, text: str) -> bool:
        """Whether a file without a whole line can be the beginning of this table."""
        start = self._header() or f'{{"{self.columns[0]}": '
        return start.startswith(text) or (not self._is_csv and text.startswith(start))

    def _header(self) -> str:
        return ",".join(self.columns) + "\n" if self._is_csv else ""

    def replace(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the file anew with these rows, whole or not at all."""
        write_text(self.path, self._header() + "".join(map(self.line, rows)))

    def open(self) -> IO[str]:
        """The file, open for rows to be appended; made with its header if it is missing or empty.

        A last line without its end, which a kill can leave, is cut off.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        if not text.endswith("\n"):
            self.replace(self.read())
        return self.path.open("a", encoding="utf-8")
