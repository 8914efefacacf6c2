"""The torch side: models, tasks, sample inputs and data, as the exporter and the judges need them."""
