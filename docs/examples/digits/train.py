"""Train the digit network on scikit-learn's 8 x 8 digits and write its integers: a minute on any machine.

pip install scikit-learn      # for the images alone; the network is numpy
python -m docs.examples.digits.train
"""

import json

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from docs.examples.digits import model
from pouw.backends.reference import NumpyBackend
from pouw.execution import run
from pouw.hypergraph import Hypergraph
from pouw.operators.types import Tensor

Floats = NDArray[np.floating]
Labels = NDArray[np.integer]

SEED = 7
HIDDEN = 32
STEPS = 4000
BATCH = 64
RATE = 2e-3
DECAY = 2e-3
TEST = 360  # of 1,797 images, drawn once
PIXEL_MAX = 16
SCORE_ONE = 1024  # 1.0 in the scores


def train(images: Floats, labels: Labels, random: np.random.Generator) -> list[Floats]:
    """Return float weights [out, in] and biases of both layers; Adam on the cross entropy."""
    shapes = ((HIDDEN, 64), (HIDDEN,), (10, HIDDEN), (10,))
    values = [
        random.normal(0, 1 / np.sqrt(shape[-1]), shape) if len(shape) > 1 else np.zeros(shape) for shape in shapes
    ]
    first, second = [np.zeros(shape) for shape in shapes], [np.zeros(shape) for shape in shapes]
    for step in range(1, STEPS + 1):
        chosen = random.integers(0, len(images), BATCH)
        # a pixel's shift and some noise: the network sees 1,437 images only
        x = images[chosen] + random.normal(0, 0.05, (BATCH, 64))
        w1, b1, w2, b2 = values
        before = x @ w1.T + b1  # (batch, 64) @ (64, hidden)
        hidden = np.clip(before, -1, 1)
        scores = hidden @ w2.T + b2  # (batch, hidden) @ (hidden, 10)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        slope = odds / odds.sum(axis=1, keepdims=True)
        slope[np.arange(BATCH), labels[chosen]] -= 1
        slope /= BATCH
        back = (slope @ w2) * (np.abs(before) < 1)
        slopes = (back.T @ x + DECAY * w1, back.sum(axis=0), slope.T @ hidden + DECAY * w2, slope.sum(axis=0))
        for at, gradient in enumerate(slopes):
            first[at] += 0.1 * (gradient - first[at])
            second[at] += 0.001 * (gradient**2 - second[at])
            mean, square = first[at] / (1 - 0.9**step), second[at] / (1 - 0.999**step)
            values[at] = values[at] - RATE * mean / (np.sqrt(square) + 1e-8)
    return values


def quantise(layer: str, weight: Floats, bias: Floats, input_one: int, output_one: int) -> dict[str, Tensor]:
    """Return a layer's constants: int8 rows with a scale each, folded into the multipliers."""
    scale = np.abs(weight).max(axis=1) / model.Q_MAX
    multipliers = scale / model.Q_MAX / input_one * output_one * 2**model.SHIFT
    return {
        f"{layer}.weight": np.rint(weight / scale[:, None]).astype(np.int8),
        f"{layer}.multipliers": np.rint(multipliers).astype(np.int32),
        f"{layer}.bias": np.rint(bias * output_one).astype(np.int32),
        f"{layer}.factors": np.ones(weight.shape[1], np.int16),
    }


def share_right(constants: dict[bytes, Tensor], graph: Hypergraph, images: Floats, labels: Labels) -> float:
    """Return the share of images that the integer network reads right."""
    right = 0
    for pixels, label in zip(images, labels, strict=True):
        scores = run(graph, constants, {"image": model.image_tensor(pixels)}, {}, NumpyBackend()).outputs["scores"]
        right += int(scores.argmax()) == label
    return right / len(images)


def main() -> None:
    """Train, quantise, measure, write."""
    random = np.random.default_rng(SEED)
    digits = load_digits()
    order = random.permutation(len(digits.data))
    test, rest = order[:TEST], order[TEST:]
    w1, b1, w2, b2 = train(digits.data[rest] / PIXEL_MAX, digits.target[rest], random)
    weights = quantise("hidden", w1, b1, PIXEL_MAX, model.HIDDEN_LIMIT)
    weights |= quantise("scores", w2, b2, model.HIDDEN_LIMIT, SCORE_ONE)
    graph, constants = model.build(weights)
    hidden = np.clip(digits.data[test] / PIXEL_MAX @ w1.T + b1, -1, 1)
    floats = ((hidden @ w2.T + b2).argmax(axis=1) == digits.target[test]).mean()
    integers = share_right(constants, graph, digits.data[test], digits.target[test])
    save_file(weights, model.WEIGHTS)
    model.WEIGHTS.chmod(0o644)
    unseen = [next(image for image in test if digits.target[image] == digit) for digit in range(10)]
    examples = [
        {"digit": digit, "pixels": digits.data[image].astype(int).tolist()} for digit, image in enumerate(unseen)
    ]
    model.EXAMPLES.write_text("[\n  " + ",\n  ".join(map(json.dumps, examples)) + "\n]\n", encoding="utf-8")
    print(f"right of {TEST} unseen images: {floats:.3f} in floats, {integers:.3f} in integers")
    print(f"graph {model.graph_id(graph).hex()}, {len(model.model_bytes(graph, constants))} bytes on chain")


if __name__ == "__main__":
    main()
