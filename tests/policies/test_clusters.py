from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.clusters import (
    ClusterDrawError,
    MoreHostileError,
    TooFewSitesError,
    _below,
    clusters_of,
    least_cluster,
    least_opened,
    required_sites,
    seed_of,
)
from privacy.sum_context import colluding_of


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def roster(count: int) -> list[str]:
    return [f"site-{number:02}" for number in range(count)]


def test_the_design_s_figures() -> None:
    assert [required_sites(hostile) for hostile in (1, 2, 3)] == [12, 20, 35]
    assert [least_cluster(hostile) for hostile in (1, 2, 3)] == [4, 4, 5]
    assert [least_opened(2, proven=proven) for proven in (0, 1, 2)] == [5, 3, 1]


def test_more_proven_liars_than_the_plan_names_end_it() -> None:
    with pytest.raises(MoreHostileError) as refusal:
        least_opened(2, proven=3)
    assert refusal.value.code == "robust.more-hostile"


def test_a_word_that_would_favour_some_sites_is_passed_over() -> None:
    # 2^64 - 1 is a multiple of 3: the one word beyond it is not used.
    assert _below(3, iter([2**64 - 1, 5])) == 2
    assert _below(3, iter([2**64 - 2, 5])) == 2
    assert _below(4, iter([2**64 - 1, 5])) == 3


@given(st.integers(1, 4), st.integers(0, 60), st.binary(min_size=32, max_size=32))
def test_every_site_is_in_one_cluster_that_is_large_enough(hostile: int, more: int, seed: bytes) -> None:
    sites = sorted(roster(required_sites(hostile) + more))
    drawn = clusters_of(sites, hostile, seed.hex())
    assert sorted(site for cluster in drawn for site in cluster) == sites
    sizes = [len(cluster) for cluster in drawn]
    assert len(drawn) == len(sites) // least_cluster(hostile) >= least_opened(hostile)
    assert min(sizes) >= least_cluster(hostile) and max(sizes) - min(sizes) <= 1
    assert all(list(cluster) == sorted(cluster) for cluster in drawn)


@given(st.permutations(roster(13)))
def test_the_draw_does_not_depend_on_the_order_in_which_a_party_keeps_the_roster(order: list[str]) -> None:
    assert clusters_of(order, 1, digest("seed")) == clusters_of(roster(13), 1, digest("seed"))


def test_the_draw_is_the_one_that_is_written_down() -> None:
    """A golden draw: another implementation, or a later version of this one, must arrive at it."""
    assert clusters_of([f"site-{letter}" for letter in "abcdefghijklm"], 1, digest("golden")) == GOLDEN


def test_a_roster_that_is_one_site_short_is_refused_with_the_figures() -> None:
    for hostile, needed in ((1, 12), (2, 20)):
        with pytest.raises(TooFewSitesError) as refusal:
            clusters_of(roster(needed - 1), hostile, digest("seed"))
        assert refusal.value.code == "robust.too-few-sites"
        assert str(needed - 1) in str(refusal.value) and str(needed) in str(refusal.value)
        assert clusters_of(roster(needed), hostile, digest("seed"))


@pytest.mark.parametrize("seed", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, digest("x") + "\n"])
def test_what_is_no_digest_seeds_nothing(seed: str) -> None:
    with pytest.raises(ClusterDrawError):
        clusters_of(roster(12), 1, seed)
    with pytest.raises(ClusterDrawError):
        seed_of(seed, {"a": digest("a")})
    with pytest.raises(ClusterDrawError):
        seed_of(digest("a"), {"a": seed})


@pytest.mark.parametrize("hostile", [0, -1, True])
def test_no_hostile_site_is_no_robust_plan(hostile: int) -> None:
    with pytest.raises(ClusterDrawError):
        clusters_of(roster(12), hostile, digest("seed"))


def test_a_site_that_stands_twice_in_the_roster_is_refused() -> None:
    with pytest.raises(ClusterDrawError):
        clusters_of([*roster(12), "site-00"], 1, digest("seed"))


def test_every_pair_of_sites_is_equally_likely_to_sum_together() -> None:
    draws = 3000
    together: Counter[tuple[str, str]] = Counter()
    for number in range(draws):
        for cluster in clusters_of(roster(12), 1, digest(f"draw {number}")):
            together.update(combinations(cluster, 2))
    # 18 of 66 pairs are together in a draw. Six standard deviations; the seeds are fixed.
    chance = 18 / 66
    spread = 6 * (draws * chance * (1 - chance)) ** 0.5
    assert len(together) == 66
    assert all(abs(count - draws * chance) < spread for count in together.values())


def test_whatever_the_draw_as_many_colluders_as_the_plan_names_leave_two_honest_sites_in_every_cluster() -> (
    None
):
    """Grinding the seed gains nothing against r colluding sites. Against more, the draw is what protects."""
    for hostile in (1, 2, 3):
        sites = roster(required_sites(hostile))
        for number in range(20):
            for cluster in clusters_of(sites, hostile, digest(f"{number}")):
                assert len(cluster) - hostile >= 2
    beyond = colluding_of(12)
    exposed = sum(
        any(
            {"site-00", "site-01", "site-02"} <= set(cluster)
            for cluster in clusters_of(roster(12), 1, digest(f"{n}"))
        )
        for n in range(2000)
    )
    assert beyond == 3
    assert (
        0.03 < exposed / 2000 < 0.08
    )  # 12/220 = 5.5 %: a coordinator that may choose the seed needs 20 tries.


def test_each_contribution_and_the_roster_change_the_seed() -> None:
    nonces = {site: digest(site) for site in roster(12)}
    seed = seed_of(digest("roster"), nonces)
    assert seed == seed_of(digest("roster"), dict(reversed(nonces.items())))
    others = {seed_of(digest("another roster"), nonces)}
    others |= {seed_of(digest("roster"), {**nonces, site: digest("other")}) for site in nonces}
    others |= {seed_of(digest("roster"), {k: v for k, v in nonces.items() if k != site}) for site in nonces}
    swapped = {**nonces, "site-00": nonces["site-01"], "site-01": nonces["site-00"]}
    assert len(others | {seed_of(digest("roster"), swapped), seed}) == 27


GOLDEN = (
    ("site-b", "site-c", "site-h", "site-k", "site-l"),
    ("site-d", "site-e", "site-f", "site-m"),
    ("site-a", "site-g", "site-i", "site-j"),
)
