"""Per-patient clipped gradient sums in one forward and one backward pass.

Lives here: how the gradients of a logical batch are taken apart by patient, their norms, the clipping, the sum. Not
here: which patients take part, the noise, the step (`tasks.train`), what it costs (`privacy.accounting`).

One file a family of layers (`linear`, `convolution`, `norm`, `activation`, `embedding`), a table of them
(`registry`), when to form a gradient and when only its norm (`choice`), who owns which items (`patients`), the sum
itself (`clipped_sum`).
"""
