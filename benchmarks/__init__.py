"""Measurements of edgekit, and the real models and data they are made on."""
