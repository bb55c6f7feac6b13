"""What would be decided about a publish or a subscription. Native only: ``Shard.judge_publish`` and its like."""
