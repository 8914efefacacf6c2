"""What quantize tries, judges and takes: candidates, rows and the choice among them."""
