"""Masks that cancel in a sum, and what it takes to remove those that do not (Bonawitz et al. 2017).

Lives here: rings and keystreams, secret sharing, pair keys, the two messages of a masked sum. What the masked values
are, lanes or packed slots, is the business of `privacy.masked_sum` and of the homomorphic sum.
"""
