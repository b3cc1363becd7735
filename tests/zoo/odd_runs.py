"""Odd cases of a run: run.json, the model's module and `from_run`, embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np

from zoo.odd import ACCEPTED, Tiny, odd, refused

_SOURCE = """
from zoo.odd import Tiny

class Model(Tiny):
    @classmethod
    def from_run(cls, run_dir):
        return cls()
"""


class OfRun(Tiny):
    """The model that run.json names."""

    source: ClassVar[str | None] = _SOURCE


@odd(ACCEPTED)
class RunIsRight(OfRun):
    pass


@odd(refused(r"run\.json", "model"))
class RunNamesNoModel(OfRun):
    @classmethod
    def prepare(cls, run: Path) -> None:
        (run / "run.json").write_text(json.dumps({"format": 1}))


@odd(refused(r"run\.json", "JSON"))
class RunIsNoJson(OfRun):
    @classmethod
    def prepare(cls, run: Path) -> None:
        (run / "run.json").write_text("model = odd_model:Model")


@odd(refused("no_such_module", "PYTHONPATH|import"))
class ModuleIsMissing(OfRun):
    @classmethod
    def prepare(cls, run: Path) -> None:
        (run / "run.json").write_text(json.dumps({"format": 1, "model": "no_such_module:Model"}))


@odd(refused("Model", "from_run"))
class ClassIsMissing(OfRun):
    source = "class Other: pass\n"


@odd(refused("odd_model", "SyntaxError|syntax", "line 2"))
class ModuleIsNoPython(OfRun):
    source = "class Model:\n    def from_run(cls run_dir): return 1\n"


@odd(refused("odd_model", "ZeroDivisionError|division"))
class ModuleRaises(OfRun):
    source = "RATIO = 1 / 0\n"


@odd(refused("odd_model", "no_such_package"))
class ModuleNeedsPackage(OfRun):
    source = "import no_such_package\n"


@odd(ACCEPTED)
class ImportsInsideFromRun(OfRun):
    source = _SOURCE.replace("return cls()", "import odd_helper; return cls()")

    @classmethod
    def prepare(cls, run: Path) -> None:
        (run / "odd_helper.py").write_text("ANSWER = 42\n")


@odd(refused("from_run", r"weights\.h5|FileNotFoundError"))
class FromRunFindsNoWeights(OfRun):
    source = _SOURCE.replace("return cls()", "open(run_dir / 'weights.h5'); return cls()")


@odd(refused("from_run", "None"))
class FromRunReturnsNothing(OfRun):
    source = _SOURCE.replace("return cls()", "cls()")


@odd(refused("from_run", "classmethod|class method"))
class FromRunIsNoClassMethod(OfRun):
    source = _SOURCE.replace("    @classmethod\n", "").replace("from_run(cls", "from_run(self")


@odd(refused("embed_item", "score"))
class ModelIsPlainKeras(OfRun):
    """A Keras model without the functions of the protocol."""

    source = """
import keras

class Model(keras.Model):
    @classmethod
    def from_run(cls, run_dir):
        return cls()
"""


@odd(refused(r"item_embs\.npy", "NaN"))
class EmbeddingsHaveNaN(OfRun):
    @classmethod
    def prepare(cls, run: Path) -> None:
        embs = np.load(run / "embeddings/item_embs.npy")
        embs[3, 2] = np.nan
        np.save(run / "embeddings/item_embs.npy", embs)


@odd(refused(r"item_embs\.npy"))
class EmbeddingsAreMissing(OfRun):
    @classmethod
    def prepare(cls, run: Path) -> None:
        (run / "embeddings/item_embs.npy").unlink()


@odd(refused(r"item_embs\.npy", "float64"))
class EmbeddingsAreFloat64(OfRun):
    @classmethod
    def prepare(cls, run: Path) -> None:
        embs = np.load(run / "embeddings/item_embs.npy")
        np.save(run / "embeddings/item_embs.npy", embs.astype(np.float64))


@odd(refused(r"item_embs\.npy", "rows"))
class EmbeddingsAreFewer(OfRun):
    @classmethod
    def prepare(cls, run: Path) -> None:
        embs = np.load(run / "embeddings/item_embs.npy")
        np.save(run / "embeddings/item_embs.npy", embs[:-1])


@odd(ACCEPTED)
class EmbeddingsAreFortran(OfRun):
    """Column-major, as a transposed array or pandas writes them."""

    @classmethod
    def prepare(cls, run: Path) -> None:
        embs = np.load(run / "embeddings/item_embs.npy")
        np.save(run / "embeddings/item_embs.npy", np.asfortranarray(embs))


@odd(refused("nann index"))
class IndexIsMissing(OfRun):
    @classmethod
    def prepare(cls, run: Path) -> None:
        for file in (run / "index").iterdir():
            file.unlink()
        (run / "index").rmdir()
