"""What the fuzzer starts from: honest models and small hostile ones. `python -m tests.fuzz.seeds FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.hostile.corpus import CORPUS
from tests.integration.test_quantised_suspects import FORMS, convolutional, quantised
from tests.support_models import colour_net, save

LARGEST = 30_000


def main(folder: Path) -> None:
    """Write the seeds, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    honest = {"colour": colour_net().SerializeToString(), "convolutional": convolutional().SerializeToString()}
    with tempfile.TemporaryDirectory() as work:
        honest.update({f"quantised-{form}": quantised(form, Path(work)) for form in FORMS})
        for number, hostile in enumerate(CORPUS.values()):
            (place := Path(work) / str(number) / "suspect").mkdir(parents=True)
            (place.parent / "canary").mkdir()
            (place.parent / "canary" / "secret.bin").touch()
            path = hostile.place(place)
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST:
                honest[f"hostile-{number}"] = path.read_bytes()
    for name, data in honest.items():
        save(data, folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
