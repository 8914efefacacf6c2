"""Texts made token by token: the loop over a decoder, with numpy, one engine and a tokenizer."""
