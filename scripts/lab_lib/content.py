"""The files the lab's servers serve: the same bytes on every machine and in every run."""

import hashlib
import os
import random

KIB, MIB = 1024, 1024 * 1024
SIZES = {"1k": KIB, "4k": 4 * KIB, "16k": 16 * KIB, "64k": 64 * KIB, "256k": 256 * KIB,
         "1m": MIB, "10m": 10 * MIB, "50m": 50 * MIB}
_CHUNK_BYTES = MIB


def generate(directory):
    """Write the files that are not there yet, named as in SIZES."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, size in SIZES.items():
        path = directory / name
        if path.exists() and path.stat().st_size == size:
            continue
        source = random.Random(f"baton lab {name}")
        partial = path.with_suffix(".part")
        with open(partial, "wb") as file:
            for offset in range(0, size, _CHUNK_BYTES):
                file.write(source.randbytes(min(_CHUNK_BYTES, size - offset)))
        os.chmod(partial, 0o644)
        os.replace(partial, path)


def sha256_of(path):
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
