"""What a topic name and a topic filter are (section 4.7). Native only: see ``topic_rules.pxd``."""
