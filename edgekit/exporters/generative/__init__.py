"""Models that generate: components, rules and tokenizer, compared with PyTorch."""
