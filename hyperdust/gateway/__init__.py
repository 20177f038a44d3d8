"""An OpenAI-compatible endpoint: each request is a job on the chain, paid from a local key, or an agent's ask."""
