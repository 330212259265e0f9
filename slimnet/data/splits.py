"""How samples are split: at random, every class in proportion, and always alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slimnet.data.samples import Samples
from slimnet.data.spec import Spec


def carved(splits: Mapping[str, Samples], spec: Spec) -> dict[str, Samples]:
    """The splits with validation carved out of train, and train then cut to its limit.

    Raises:
        BadInput: The option asks for more than the splits have, or for what they have already.
    """
    splits = dict(splits)
    if "train" not in splits:
        if spec.val or spec.limit:
            raise spec.wrong("has no training split that val or limit could be taken from; leave them out")
        return splits
    train = splits["train"]
    if "val" in splits:
        if spec.val:
            raise spec.wrong("brings a validation split of its own; leave val out, or say val=0 not to use it")
        if spec.val == 0:
            del splits["val"]
    elif count := len(train) // 10 if spec.val is None else spec.val:
        if count >= len(train):
            raise spec.wrong(f"val={count} leaves none of the {len(train)} training samples; give less")
        chosen = stratified(train.y, count)
        splits["val"] = train.take(chosen)
        train = train.take(np.setdiff1d(np.arange(len(train)), chosen))
    if spec.limit is not None:
        train = train.take(np.random.RandomState(0).permutation(len(train))[: spec.limit])
    return {**splits, "train": train}


def stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Random indices of `count` samples, every class in proportion: evenly spaced in an order sorted by class."""
    places = (np.arange(count) * len(labels) + len(labels) // 2) // count
    return shuffled_by_class(labels)[places]


def shuffled_by_class(labels: np.ndarray) -> np.ndarray:
    """Indices by class, in random order within it; from the legacy generator, whose stream never changes."""
    shuffled = np.random.RandomState(0).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]
