"""The counter-based generator is SplitMix64, and its numbers are uniform and independent.

Seeds are fixed, so a test that passes keeps passing; the tolerances are those of a test at the 1 % level or wider.
"""

from __future__ import annotations

import torch
from scipy.stats import chisquare

from sslx.api import Use, bits, key, mix, permutation, seed_of, uniform

_N = 1 << 16


def test_bits_are_the_published_splitmix64_sequence() -> None:
    """The reference output for seed 1234567 (rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64)."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [value % 2**64 for value in bits(torch.tensor(1234567), 5).tolist()] == expected


def test_uniform_numbers_fill_the_interval_evenly() -> None:
    """Chi-square over 64 bins, within one key and across keys."""
    for numbers in (uniform(key(Use.VIEWS, 0), _N), uniform(key(Use.VIEWS, 0, torch.arange(_N)), 1)):
        assert numbers.min() >= 0 and numbers.max() < 1
        assert chisquare(torch.histc(numbers, 64, 0, 1)).pvalue > 0.01


def test_pairs_of_numbers_fill_the_square_evenly() -> None:
    """Chi-square over 16 x 16 cells: of successive draws, and of the same draw for adjacent samples, views, epochs."""
    cells = (uniform(key(Use.VIEWS, 0, torch.arange(_N)), 2) * 16).long()
    assert chisquare((cells[:, 0] * 16 + cells[:, 1]).bincount(minlength=256)).pvalue > 0.01
    for one, other in (((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 1), (1, 0))):
        a, b = ((uniform(key(Use.VIEWS, *parts, torch.arange(_N)), 1)[:, 0] * 16).long() for parts in (one, other))
        assert chisquare((a * 16 + b).bincount(minlength=256)).pvalue > 0.01


def test_draws_of_a_key_are_uncorrelated() -> None:
    """All 496 pairs among 32 draws; the largest of so many correlations is about 3.3 / sqrt(n), the limit is 4.5."""
    correlation = uniform(key(Use.VIEWS, 3, torch.arange(_N)), 32).T.corrcoef()
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() < 4.5 / _N**0.5


def test_every_input_bit_changes_every_output_bit_half_the_time() -> None:
    """Avalanche: 64 x 64 frequencies of 4096 keys, each within 5 standard deviations (0.039) of a half."""
    x = bits(torch.tensor(99), 4096)
    positions = torch.arange(64)
    flipped = mix(x[:, None] ^ (torch.ones(64, dtype=torch.int64) << positions)) ^ mix(x)[:, None]  # (4096, 64)
    frequency = ((flipped[..., None] >> positions) & 1).float().mean(dim=0)
    assert (frequency - 0.5).abs().max() < 5 * 0.5 / 4096**0.5


def test_keys_do_not_collide() -> None:
    parts = torch.arange(60)
    keys = key(Use.VIEWS, parts[:, None, None], parts[:, None], parts).flatten()
    others = key(Use.ORDER, parts[:, None, None], parts[:, None], parts).flatten()
    assert len(torch.cat([keys, others]).unique()) == 2 * 60**3


def test_a_key_does_not_depend_on_what_it_is_computed_with() -> None:
    together = uniform(key(Use.VIEWS, 5, torch.arange(100)), 7)
    assert torch.equal(together[31], uniform(key(Use.VIEWS, 5, 31), 7))
    assert torch.equal(together[:, :3], uniform(key(Use.VIEWS, 5, torch.arange(100)), 3))


def test_a_permutation_has_every_position_once_and_differs_by_its_key() -> None:
    one, other = permutation(1000, Use.ORDER, 0, 0), permutation(1000, Use.ORDER, 0, 1)
    assert torch.equal(one.sort().values, torch.arange(1000))
    assert torch.equal(one, permutation(1000, Use.ORDER, 0, 0)) and not torch.equal(one, other)


def test_a_seed_fits_torch_and_numpy() -> None:
    seeds = [seed_of(Use.STEP, 0, step) for step in range(1000)]
    assert len(set(seeds)) == 1000 and all(0 <= seed < 2**63 for seed in seeds)
