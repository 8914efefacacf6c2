"""The torch side: models, tasks, sample inputs and data, for the exporter and the judges."""
