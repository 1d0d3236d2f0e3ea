from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.clusters import clusters_of
from policies.isolation import atoms, isolation_violations, openable

SITES = [f"site-{number:02}" for number in range(12)]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def matrix(memberships: list[frozenset[str]], sites: list[str]) -> np.ndarray:
    return np.array([[float(site in one) for site in sites] for one in memberships])


def smallest_support(memberships: list[frozenset[str]], sites: list[str], most: int) -> int:
    """The least number of sites to which a combination of the memberships can be confined; most + 1 if above `most`.

    A combination is confined to T if the rows lose rank when the columns of T are struck out.
    """
    rows = matrix(memberships, sites)
    rank = np.linalg.matrix_rank(rows)
    for size in range(1, most + 1):
        for inside in combinations(range(len(sites)), size):
            outside = [column for column in range(len(sites)) if column not in inside]
            if np.linalg.matrix_rank(rows[:, outside]) < rank:
                return size
    return most + 1


memberships_of_six = st.lists(st.frozensets(st.sampled_from(SITES[:7]), min_size=1), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(memberships_of_six, st.integers(1, 4))
def test_no_combination_of_what_is_let_through_isolates_fewer_sites(
    memberships: list[frozenset[str]], least: int
) -> None:
    if not isolation_violations(memberships[:-1], memberships[-1:], least=least):
        assert smallest_support(memberships, SITES[:7], least - 1) >= least


def test_the_rule_is_stricter_than_it_would_have_to_be_and_says_so() -> None:
    memberships = [frozenset("abc"), frozenset("cde")]
    assert smallest_support(memberships, list("abcde"), 2) == 3
    assert isolation_violations([], memberships, least=2)


@given(memberships_of_six)
def test_atoms_are_a_partition_of_the_sites_that_were_summed(memberships: list[frozenset[str]]) -> None:
    found = atoms(memberships)
    assert sorted(site for atom in found for site in atom) == sorted(frozenset().union(*memberships))
    for membership in memberships:
        assert all(set(atom) <= membership or membership.isdisjoint(atom) for atom in found)


def test_clusters_that_are_redrawn_every_round_give_one_site_away() -> None:
    """What the check is there to stop: sums of four, none of them small, and a site's vector comes out exactly."""
    rounds = [clusters_of(SITES, 1, digest(f"round {number}")) for number in range(1, 9)]
    memberships = [frozenset(cluster) for clusters in rounds for cluster in clusters]
    vectors = np.random.default_rng(1).normal(size=(12, 5))
    rows = matrix(memberships, SITES)
    target = np.eye(12)[3]
    combination, *_ = np.linalg.lstsq(rows.T, target, rcond=None)
    assert np.allclose(combination @ (rows @ vectors), vectors[3])

    first, second = memberships[:3], memberships[3:6]
    assert isolation_violations([], first, least=3) == []
    refused = isolation_violations(first, second, least=3)
    assert refused and {violation.code for violation in refused} == {"robust.isolated"}


def test_a_site_that_leaves_a_cluster_after_a_round_is_named_as_what_the_difference_would_show() -> None:
    whole, left = ["anna", "berta", "clara", "dora"], ["anna", "berta", "clara"]
    assert isolation_violations([], [left], least=3) == []
    [violation] = isolation_violations([whole], [left], least=3)
    assert "dora" in violation.message and "anna" not in violation.message


def test_a_site_that_comes_back_is_the_same_difference() -> None:
    assert isolation_violations([["anna", "berta", "clara"]], [["anna", "berta", "clara", "dora"]], least=3)


def test_two_sums_that_are_opened_together_are_judged_together() -> None:
    assert isolation_violations([], [["a", "b", "c"], ["a", "b", "c", "d"]], least=3)


def test_a_sum_that_is_itself_too_small_is_refused() -> None:
    [violation] = isolation_violations([], [["a", "b"]], least=3)
    assert "a and b" in violation.message


def test_fixed_clusters_and_sums_of_them_may_be_opened_as_often_as_a_plan_has_rounds() -> None:
    clusters = clusters_of(SITES, 1, digest("fixed"))
    everybody = [site for cluster in clusters for site in cluster]
    assert isolation_violations([*clusters, everybody] * 5, [*clusters, everybody], least=3) == []


def test_a_cluster_waits_for_the_sites_that_it_was_opened_with() -> None:
    clusters = (("a", "b", "c", "d"), ("e", "f", "g", "h"))
    first = openable(clusters, [], set("abcefgh"), least=3)
    assert first == ((0, ("a", "b", "c")), (1, ("e", "f", "g", "h")))
    published = [members for _, members in first]
    # d missed the first round and stays out; h is away, so that its cluster waits; it is back, and goes on.
    assert openable(clusters, published, set("abcdefg"), least=3) == ((0, ("a", "b", "c")),)
    assert openable(clusters, published, set("abcdefgh"), least=3) == first


def test_a_cluster_with_too_few_sites_present_is_not_opened() -> None:
    assert openable((("a", "b", "c", "d"),), [], set("ab"), least=3) == ()


def test_a_cluster_of_which_different_sites_were_opened_stays_closed() -> None:
    cluster = (("a", "b", "c", "d"),)
    assert openable(cluster, [set("abcd"), set("abc")], set("abcd"), least=3) == ()
    # A sum over several clusters at once holds the same sites of this one: no contradiction.
    assert openable(cluster, [set("abcd"), set("abcdefgh")], set("abcd"), least=3)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.lists(st.sets(st.sampled_from(SITES)), max_size=8))
def test_whoever_is_away_when_what_is_openable_isolates_nobody(seed: bytes, rounds: list[set[str]]) -> None:
    clusters = clusters_of(SITES, 1, seed.hex())
    published: list[tuple[str, ...]] = []
    for present in rounds:
        opened = [members for _, members in openable(clusters, published, present, least=3)]
        assert isolation_violations(published, opened, least=3) == []
        assert all(set(members) <= present for members in opened)
        published += opened
