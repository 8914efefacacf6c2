"""One module per entry: archives in, a folder of plain files out."""
