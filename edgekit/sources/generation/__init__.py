"""Models that generate, in the form in which they are exported: their cache in and out."""
