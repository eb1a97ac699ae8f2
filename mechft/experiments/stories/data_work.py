"""The stories of a study: a tokenizer, a corpus for every protocol, and stories held out."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechft.errors import require
from mechft.randomness import derive_seed
from mechft.tasks.stories.corpus import TokenCorpus
from mechft.tasks.stories.corpus_files import load_corpus, write_corpus
from mechft.tasks.stories.counts import ReadCounts
from mechft.tasks.stories.layout import render
from mechft.tasks.stories.procedural.generator import ProceduralStories
from mechft.tasks.stories.protocols import ProtocolCounts, StoryProtocol
from mechft.tasks.stories.record import StoryRecord
from mechft.tasks.stories.sources import read_stories
from mechft.tasks.stories.split import Split
from mechft.tasks.stories.tokenizer import StoryTokenizer

if TYPE_CHECKING:
    import pandas as pd

Settings = Mapping[str, Any]
Needs = Mapping[str, Path]

LABELLED_FILE = "labelled.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
_TOKENIZER_STORIES = 20_000  # words of stories repeat: more of them teach a tokenizer nothing


def data_work(settings: Settings, needs: Needs, folder: Path) -> None:
    """Write what models are trained and measured on.

    Leaves: tokenizer.json, a corpus for every protocol (``corpus_of``), labelled.jsonl (stories of the
    training split, for the classifier and probes), held_out.jsonl, counts.csv.
    """
    seed = settings["seed"]
    counts: list[pd.DataFrame] = []
    train = partial(_records, settings, "train")
    tokenizer = StoryTokenizer.train(
        _texts(islice(train(), _TOKENIZER_STORIES), seed), settings["vocab_size"]
    )
    tokenizer.save(folder)  # a killed attempt may have left the same
    for protocol in settings["protocols"]:
        counts.append(_write_protocol(protocol, settings, train, tokenizer, folder))
    number = settings["labelled_stories"]
    counts.append(_write_records(folder / LABELLED_FILE, settings, "train", number))
    number = settings["test_stories"]
    counts.append(_write_records(folder / HELD_OUT_FILE, settings, "validation", number))
    import pandas as pd

    pd.concat(counts, ignore_index=True).to_csv(folder / "counts.csv", index=False)


def _write_protocol(
    name: str,
    settings: Settings,
    records: Callable[[ReadCounts], Iterator[StoryRecord]],
    tokenizer: StoryTokenizer,
    folder: Path,
) -> pd.DataFrame:
    seed, did, read = settings["seed"], ProtocolCounts(), ReadCounts()
    protocol = StoryProtocol(name, settings["feature"])  # type: ignore[arg-type]
    place = corpus_path(folder, name)
    if not place.exists():  # a killed attempt may have written it
        texts = _texts(protocol.apply(records(read), seed, did), seed)
        write_corpus(place, texts, tokenizer, lambda: {"protocol": asdict(did)})
    done = load_corpus(place).source["protocol"]
    import pandas as pd

    return pd.DataFrame([{"corpus": name, "what": what, "count": n} for what, n in done.items()])


def _write_records(path: Path, settings: Settings, split: Split, number: int) -> pd.DataFrame:
    import pandas as pd

    records = list(islice(_records(settings, split), number))
    require(
        len(records) >= number,
        f"A study takes {number:,} stories of the source's {split} split for {path.stem}; it has "
        f"{len(records):,}. Give more stories.",
    )
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(asdict(record)) + "\n")
    return pd.DataFrame([{"corpus": path.stem, "what": "records_out", "count": len(records)}])


def _records(
    settings: Settings, split: Split, counts: ReadCounts | None = None
) -> Iterator[StoryRecord]:
    source = settings["source"]
    number = settings["train_stories" if split == "train" else "test_stories"]
    if source == "procedural":
        # Streams of different seeds share nothing; the same stories serve every seed of the study.
        stream = derive_seed(settings["seed"], "stories", split)
        return ProceduralStories().stories(number, stream)
    return islice(read_stories(source, counts=counts, split=split), number)


def _texts(records: Iterable[StoryRecord], seed: int) -> Iterator[str]:
    rng = random.Random(derive_seed(seed, "story layout"))
    return (render(record, rng).text for record in records)


def corpus_path(folder: Path, protocol: str) -> Path:
    """Where a protocol's corpus is in what ``data_work`` leaves."""
    return folder / f"corpus-{protocol.replace('+', '_')}"


def corpus_of(folder: Path, protocol: str) -> TokenCorpus:
    """A protocol's corpus."""
    return load_corpus(corpus_path(folder, protocol), tokenizer_of(folder))


def tokenizer_of(folder: Path) -> StoryTokenizer:
    """The tokenizer that all corpora were written with."""
    return StoryTokenizer.load(folder)


def labelled(folder: Path) -> list[StoryRecord]:
    """The stories kept from the training split, in order."""
    return _read_records(folder / LABELLED_FILE)


def held_out(folder: Path) -> list[StoryRecord]:
    """The stories held out, in order."""
    return _read_records(folder / HELD_OUT_FILE)


def _read_records(path: Path) -> list[StoryRecord]:
    with path.open(encoding="utf-8") as file:
        return [_record(json.loads(line)) for line in file]


def _record(values: dict[str, Any]) -> StoryRecord:
    for name in ("features", "words"):
        values[name] = tuple(values[name])
    return StoryRecord(**values)
