# SPDX-License-Identifier: Apache-2.0
"""Ratios of pairs: median of the logarithms with a bootstrap interval, so that one disturbed pair says little."""

import math
import random
import statistics

RESAMPLES = 10000


def median_interval(values, resamples=RESAMPLES, seed=1):
    """Median and 95 % interval of it. The seed is fixed: the same raw data give the same table."""
    if not values:
        return None
    generator = random.Random(seed)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(resamples))
    return statistics.median(values), medians[int(0.025 * resamples)], medians[int(0.975 * resamples) - 1]


def ratio(pairs):
    """[(a, b)] -> {"ratio": b / a, "low", "high", "pairs"}; pairs that lack a figure are left out."""
    logs = [math.log(b / a) for a, b in pairs if a and b and a > 0 and b > 0]
    found = median_interval(logs)
    if not found:
        return {"ratio": None, "low": None, "high": None, "pairs": 0}
    middle, low, high = (math.exp(v) for v in found)
    return {"ratio": middle, "low": low, "high": high, "pairs": len(logs)}


def difference(pairs):
    """[(a, b)] -> median of b - a, for what is added."""
    found = median_interval([b - a for a, b in pairs if a is not None and b is not None])
    if not found:
        return {"added": None, "low": None, "high": None}
    return dict(zip(("added", "low", "high"), found))


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
