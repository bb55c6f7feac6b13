"""What the broker tells about itself: logs now, figures in time.

Not here: decisions of any kind. An observer is told and has no veto.
"""
