"""Drills: what may go wrong is made to go wrong, in a rehearsal, and whether the controls hold is written down.

One file a drill; which there are is `registry`. A drill does what a hostile or unlucky party would do, then reads the
rehearsal's ledger and homes: its report is what really happened there. Told that it is sabotaged it switches the
control off by which it would pass, and must not.
"""
