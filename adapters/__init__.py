"""The model and each user's LoRA. Knows torch and disk; nothing of Redis, thumbs or HTTP."""
