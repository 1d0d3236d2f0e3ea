"""The privacy toolbox: costs, noise, fixed-point lanes, protected sums, sealing, histograms.

Pure functions and small classes over bytes and arrays. No flows, no network, no hospital data, no policy:
what may be spent or opened, and when, is decided by `policies`. Imports nothing of ours but `ledger.errors`
and `ledger.canonical`.
"""
