"""What users said of the answers, and what is learnt from it. Knows Redis and PPO; nothing of HTTP."""
