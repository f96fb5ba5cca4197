"""Limits on what files from elsewhere may cost. An environment variable raises each; docs/limits.md lists them."""

import os
from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Limit:
    """One limit."""

    name: str  # of the environment variable that sets it
    default: int
    unit: str  # bytes, seconds, or what is counted
    what: str  # for people: what is limited

    @property
    def value(self) -> int:
        """The value of the environment variable if that is a whole number, otherwise the default."""
        text = os.environ.get(self.name, "").strip()
        return int(text) if text.isdecimal() and len(text) < 20 else self.default

    def __str__(self) -> str:
        """For messages: the limit and how to raise it."""
        return f"the limit is {self.amount(self.value)}: set {self.name} to raise it"

    def amount(self, value: int) -> str:
        if self.unit != "bytes":
            return f"{value} {self.unit}"
        for size, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if value >= size:
                return f"{value / size:.4g} {unit}"
        return f"{value} bytes"


TEXT_BYTES = Limit("RE2PIX_MAX_TEXT_BYTES", 200 * KIB, "bytes", "a manifest, a run file or dataset.yaml")
METADATA_BYTES = Limit("RE2PIX_MAX_METADATA_BYTES", 2 * MIB, "bytes", "metadata.yaml of a recording")
TEXT_VALUES = Limit("RE2PIX_MAX_TEXT_VALUES", 20_000, "values", "values in a YAML file")
GRAPH_BYTES = Limit("RE2PIX_MAX_GRAPH_BYTES", 2 * GIB, "bytes", "a graph of a bundle")
GRAPH_FIELDS = Limit("RE2PIX_MAX_GRAPH_FIELDS", 2_000_000, "fields", "protobuf fields in a graph of a bundle")
TENSOR_VALUES = Limit("RE2PIX_MAX_TENSOR_VALUES", 1 << 31, "values", "one tensor that a graph or manifest declares")
PROOF_BYTES = Limit("RE2PIX_MAX_PROOF_BYTES", GIB, "bytes", "the unpacked proof of a bundle")
ZIP_DIRECTORY = Limit("RE2PIX_MAX_ZIP_DIRECTORY_BYTES", 8 * MIB, "bytes", "the list of files in a zip archive")
LOAD_SECONDS = Limit("RE2PIX_MAX_LOAD_SECONDS", 300, "seconds", "loading and proving a bundle in one engine")
LOAD_PERCENT = Limit("RE2PIX_MAX_LOAD_PERCENT", 75, "percent of the memory", "loading and proving a bundle")
MESSAGE_BYTES = Limit("RE2PIX_MAX_MESSAGE_BYTES", GIB, "bytes", "a message, or an unpacked chunk of a recording")
CHUNK_RECORDS = Limit("RE2PIX_MAX_CHUNK_RECORDS", 1_000_000, "records", "one chunk of a recording")
BAG_TOPICS = Limit("RE2PIX_MAX_BAG_TOPICS", 10_000, "topics", "a recording")
UNPACKED_BYTES = Limit("RE2PIX_MAX_UNPACKED_BYTES", 64 * GIB, "bytes", "an unpacked recording")
CHECKPOINT_BYTES = Limit("RE2PIX_MAX_CHECKPOINT_BYTES", 32 * GIB, "bytes", "a checkpoint")
PICKLE_BYTES = Limit("RE2PIX_MAX_PICKLE_BYTES", 64 * MIB, "bytes", "the description of the tensors in a checkpoint")
PICKLE_PARTS = Limit("RE2PIX_MAX_PICKLE_PARTS", 5_000_000, "parts", "the values in a checkpoint")
PIXELS = Limit("RE2PIX_MAX_PIXELS", 50_000_000, "pixels", "a picture, read from its header before it is decoded")
ARRAY_BYTES = Limit("RE2PIX_MAX_ARRAY_BYTES", 4 * GIB, "bytes", "unpacked arrays of a run or of exact drives")
IMAGE_BYTES = Limit("RE2PIX_MAX_IMAGE_BYTES", 256 * MIB, "bytes", "a picture or a mask of footage")

LIMITS = tuple(limit for limit in globals().values() if isinstance(limit, Limit))


def page() -> str:
    """The table of docs/limits.md."""
    lines = [f"| {limit.what} | {limit.amount(limit.default)} | `{limit.name}` |" for limit in LIMITS]
    return "\n".join(["| what | at most | raised by |", "|---|---|---|", *lines]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
