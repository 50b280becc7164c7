"""Shares of a total in proportion to counts."""

from __future__ import annotations

from collections.abc import Mapping


def allocate(total: int, counts: Mapping[str, int]) -> dict[str, int]:
    """Share out ``total`` in proportion to ``counts`` by the method of the largest remainder; ties go by name."""
    everything = sum(counts.values())
    shares = {name: divmod(total * count, everything) for name, count in counts.items() if count}
    quota = {name: whole for name, (whole, _) in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (-shares[name][1], name))
    for name in by_remainder[: total - sum(quota.values())]:
        quota[name] += 1
    return quota
